"""The gate itself: a gRPC server in front of Replicate."""
