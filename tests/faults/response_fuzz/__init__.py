"""A seeded fuzz of what upstream answers, over real HTTP, against a gate that runs."""
