"""State transitions: a record and an event give a record and a ledger entry. Pure functions."""
