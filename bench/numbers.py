"""Numbers for people."""


def shown(value: float) -> str:
    """Return a number with three or so digits that mean something."""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
