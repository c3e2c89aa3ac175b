"""What gateway and worker both know: jobs, events, settings and the way to Redis."""
