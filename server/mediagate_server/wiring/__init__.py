"""Dependency wiring: how the parts of the server are built from its settings."""
