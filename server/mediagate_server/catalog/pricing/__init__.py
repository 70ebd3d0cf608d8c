"""Pricing: price schedules, cost arithmetic and cost estimates."""
