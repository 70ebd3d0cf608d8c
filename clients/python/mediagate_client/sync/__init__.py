# Generated from aio/__init__.py by `make generate`. Do not edit.
"""The client for programs without an event loop."""
