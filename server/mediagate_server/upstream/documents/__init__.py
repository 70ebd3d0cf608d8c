"""JSON documents from upstream: parsing, large values, media references, output text."""
