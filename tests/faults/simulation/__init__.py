"""A whole server in virtual time: clock, upstream, webhooks, callers and crashes, all from one
seed.

The server's own code runs, from `GenerationEngine` down to the SQL of its store. What stands around
it is made here: time that only passes when everybody waits, an upstream that bills, a network that
loses things, processes that die between any two steps.
"""
