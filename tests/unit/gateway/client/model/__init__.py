"""Tests of gateway/client/model, module by module."""
