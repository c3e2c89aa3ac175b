"""Tests of gateway/admission, module by module."""
