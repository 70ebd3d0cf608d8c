"""Replicate-compatible HTTP server for tests, with generated media.

It speaks Replicate's HTTP protocol and generates real media by a seed. It does not import the
server, its contract or its clients. Entry point: `mediagate_sandbox.server.Sandbox`.
"""
