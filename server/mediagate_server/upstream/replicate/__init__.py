"""Replicate as it is: its predictions, its streams, its errors, behind one port."""
