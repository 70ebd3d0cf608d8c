"""gRPC services: one servicer for each service of the contract."""
