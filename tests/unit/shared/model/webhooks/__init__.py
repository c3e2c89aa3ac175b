"""Test the rules of webhooks."""
