"""A Replicate-compatible upstream that runs on a bare machine.

It speaks Replicate's HTTP protocol and makes real media, seeded. It knows nothing of the gate, its
contract or its clients: `mediagate_sandbox.server.Sandbox` is the door.
"""
