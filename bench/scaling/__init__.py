"""What one unit of work costs each part, and where each is full: the parts of the scenario `scale`.

Several web processes and workers share two cores here, so how far one goes is told by CPU seconds for a
unit of work; besides, each part is driven until its own core is full.
"""
