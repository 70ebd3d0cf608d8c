"""How callers are told: what waits in the outbox is signed, and posted until it is taken."""
