"""What tests share: fixtures, an embedded Valkey, upstreams that misbehave."""
