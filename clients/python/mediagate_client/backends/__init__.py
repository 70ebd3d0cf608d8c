"""gRPC, event loop and threads for the two clients: the same functions twice."""
