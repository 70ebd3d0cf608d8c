"""Generators of outputs: texts, JSON, pictures, videos, sounds, verdicts."""
