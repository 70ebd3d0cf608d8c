"""Around every rpc, one concern a file."""
