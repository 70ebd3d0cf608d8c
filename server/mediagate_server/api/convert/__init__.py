"""Conversion between protobuf messages and the server's own types."""
