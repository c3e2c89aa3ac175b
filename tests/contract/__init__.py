"""Tests against a real Valkey."""
