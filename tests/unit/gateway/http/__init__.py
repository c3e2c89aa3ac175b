"""Tests of gateway/http, module by module."""
