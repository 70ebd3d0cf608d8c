"""Observability: metrics, structured logs and bug reports."""
