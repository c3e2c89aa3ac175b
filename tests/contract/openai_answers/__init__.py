"""Contract tests of the real openai client with the exact bytes of upstreams that break the format or refuse."""
