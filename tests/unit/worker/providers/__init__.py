"""How upstreams are read and asked."""
