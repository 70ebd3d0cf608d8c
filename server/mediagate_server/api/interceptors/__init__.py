"""Server interceptors: what every rpc passes, one concern a file."""
