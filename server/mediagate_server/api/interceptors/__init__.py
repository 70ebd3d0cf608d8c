"""gRPC server interceptors: metrics, errors, authentication, limits, metering, validation."""
