"""Test the pure translators."""
