"""One servicer per proto service: protobuf in, facts down, protobuf out."""
