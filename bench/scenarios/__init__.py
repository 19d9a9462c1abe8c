"""The scenarios, in the order in which they run: a module each, as `bench.context.Scenario` says."""

ALL = (
    "single",
    "most",
    "many",
    "idle",
    "opens",
    "replay",
    "growth",
    "writes",
    "placing",
    "reacting",
    "latency",
    "rows",
    "scale",
)

# Without names: `scale` is for who measures a deployment's capacity (`bench.capacity`).
USUAL = tuple(name for name in ALL if name != "scale")

# In two minutes: what a delivery costs, how much there can be, and what holding and opening streams takes.
QUICK, QUICK_SUBJECTS = ("single", "many", "idle", "opens", "latency"), ("tickertape-uvicorn", "nchan")

ONCE = ("rows",)  # in the first round only, however many there are
