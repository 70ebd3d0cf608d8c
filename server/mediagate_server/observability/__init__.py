"""Metrics, logging and reports of bugs."""
