"""Schemas of models: OpenAPI documents, JSON Schema, input specifications."""
