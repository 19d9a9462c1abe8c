"""`make bench`: measure the real thing beside its peers, and print the tables that the README quotes.

Servers are black boxes, spoken to over HTTP and pinned to one core; all else has another.
"""
