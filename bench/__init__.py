"""How fast the gate is, against the floor and against what an average developer would write.

`make bench` runs it: python -m bench. Every figure of one run is measured on the same machine
within minutes, so that the ratios between them mean something where the figures do not.
"""
