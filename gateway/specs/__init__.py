"""Check the requests of callers, and make the specs of jobs of them. Pure."""
