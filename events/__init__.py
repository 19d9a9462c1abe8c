"""The log: what happened. Synchronous, PostgreSQL only, knows nobody above it."""
