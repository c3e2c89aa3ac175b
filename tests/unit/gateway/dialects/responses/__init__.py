"""Tests of gateway/dialects/responses, module by module."""
