"""Unit tests of the pure translators."""
