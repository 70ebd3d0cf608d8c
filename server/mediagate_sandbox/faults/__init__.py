"""Fault injection: plans, their parser, the engine, and the faults by kind."""
