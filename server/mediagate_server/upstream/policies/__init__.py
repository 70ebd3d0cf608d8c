"""Resilience policies around requests to Replicate: retry, circuit breaker, rate limits."""
