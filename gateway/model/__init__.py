"""Rules of the gateway without I/O: callers and their keys, bodies, addresses, a reader's place, heartbeat times."""
