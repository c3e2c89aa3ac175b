"""Faults: real processes under load, killed, frozen, cut and starved by a seeded plan, and the score of it.

`make faults` runs it; `test_faults.py` is the part of it that belongs to the suite. Not here: faults of upstreams,
which are scripted one by one (tests/contract, tests/interaction).
"""
