"""Upstream: Replicate's API behind one port, with resilience policies around it."""
