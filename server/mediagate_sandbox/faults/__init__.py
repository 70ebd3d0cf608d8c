"""Faults: what goes wrong on purpose, when, and how. A plan is data; the doors carry it out."""
