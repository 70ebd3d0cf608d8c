"""Cassettes: API traffic recorded by a proxy, and replayed without the upstream."""
