"""Properties that must hold for any input, checked with generated cases."""
