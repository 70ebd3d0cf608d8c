"""Prices and cost estimates."""
