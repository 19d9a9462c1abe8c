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
