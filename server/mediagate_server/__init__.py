"""Mediagate's server: one gRPC service in front of every Replicate model."""
