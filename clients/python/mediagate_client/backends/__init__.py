"""What the two clients need of gRPC, the event loop and threads: the same functions twice."""
