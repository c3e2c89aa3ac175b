"""Faults: real processes under load, killed, frozen, cut and starved by a seeded plan, and the score of it.

`make faults` runs it; `test_faults.py` is the part of it that belongs to the suite. The upstream goes wrong too, by a
plan of its own (fault_plan.py). Not here: the consequences of one such fault (tests/contract, tests/interaction).
"""
