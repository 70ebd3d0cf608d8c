"""The doors that are not gRPC."""
