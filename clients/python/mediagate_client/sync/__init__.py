"""The client for programs without an event loop, on gRPC's own blocking stubs."""
