"""The settings: the only readers of the environment and of `tailrace.toml`."""
