"""Arrays of PostgreSQL's, as text: of a list the driver looks at each element, at five times the cost."""

from collections.abc import Iterable


def ids(values: Iterable[int]) -> str:
    """Return ids as the text of an array, in their order."""
    return "{" + ",".join(map(str, values)) + "}"


def texts(values: Iterable[str]) -> str:
    """Return strings as the text of an array, in their order."""
    quoted = [value.replace("\\", "\\\\").replace('"', '\\"') for value in values]
    return '{"' + '","'.join(quoted) + '"}' if quoted else "{}"
