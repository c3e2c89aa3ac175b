"""Test against a real Valkey."""
