"""gRPC API: server, interceptors, validation, conversion and services."""
