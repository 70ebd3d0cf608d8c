"""Replicate's HTTP API: predictions, streams, errors and webhooks, behind the upstream port."""
