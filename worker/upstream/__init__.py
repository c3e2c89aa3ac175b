"""One call to a model: the choice of a provider, circuits, concurrency, and the providers themselves."""
