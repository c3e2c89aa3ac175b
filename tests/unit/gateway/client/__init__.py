"""Test the command line's client, module by module."""
