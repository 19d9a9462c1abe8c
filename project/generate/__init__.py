"""Clients in other languages, written from the catalogue: what changes there breaks a build, not a user."""
