"""Test gateway/dialects/completions, module by module."""
