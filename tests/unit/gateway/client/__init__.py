"""The command line's client, module by module."""
