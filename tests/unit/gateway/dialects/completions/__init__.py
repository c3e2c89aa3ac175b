"""Tests of gateway/dialects/completions, module by module."""
