"""Seeded requests of any form to all routes, and the invariants that hold for each of them: `make fuzz`."""
