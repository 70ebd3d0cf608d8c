"""Generations: accepts them, runs their steps, settles them and recovers them after a crash."""
