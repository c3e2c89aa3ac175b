"""Seeded requests of any form to all routes, and what must hold whatever they are: `make fuzz`."""
