"""Test gateway/streams, module by module."""
