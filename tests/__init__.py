"""The tests: the tree mirrors the project's; `faults/` breaks things, `browser/` looks at them."""
