"""Compare outputs with recorded bytes."""
