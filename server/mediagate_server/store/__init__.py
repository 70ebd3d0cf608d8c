"""Store: ports and records of all that survives a restart."""
