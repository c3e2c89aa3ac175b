"""Test gateway/http, module by module."""
