"""gRPC API: services, interceptors, validation, conversion between protobuf and our own types."""
