"""Outputs of models: media, JSON."""
