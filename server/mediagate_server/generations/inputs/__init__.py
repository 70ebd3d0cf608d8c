"""Inputs of a generation: media, and files uploaded for them."""
