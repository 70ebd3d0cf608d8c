"""Converters: protobuf requests to our own types, our own types to protobuf responses."""
