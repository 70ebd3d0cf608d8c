"""A seeded fuzz of what upstream answers, over real HTTP, against a server that runs."""
