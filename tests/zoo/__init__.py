"""Real clients, each in an environment of its own, against a real Tailrace with a strict upstream: `make zoo`."""
