"""The shared parts of tests: fixtures, an embedded Valkey, upstreams that misbehave."""
