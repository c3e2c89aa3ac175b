"""Test gateway/admission, module by module."""
