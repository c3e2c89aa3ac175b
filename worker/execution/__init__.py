"""One job, from taken to ended."""
