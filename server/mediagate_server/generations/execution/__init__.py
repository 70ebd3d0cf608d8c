"""Execution of one generation: the only code that changes its record."""
