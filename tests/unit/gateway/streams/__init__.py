"""Tests of gateway/streams, module by module."""
