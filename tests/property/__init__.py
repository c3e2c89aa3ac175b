"""Check properties that must hold for any input, with generated cases."""
