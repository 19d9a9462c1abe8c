"""The live edge: who is listening. Asynchronous; reads the log, never writes it."""
