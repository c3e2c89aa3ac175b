"""Test gateway/dialects/responses, module by module."""
