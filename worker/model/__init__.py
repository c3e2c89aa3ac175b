"""The worker's values and rules: digests, retries, circuits, continuations. Pure: no I/O, no clock."""
