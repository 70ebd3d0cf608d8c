"""Benchmark of the server, against an echo server and a baseline gateway.

`make bench` runs it: python -m bench. Every figure of one run is measured on the same machine
within minutes, so that the ratios between them mean something where the figures do not.
"""
