"""Test gateway/dialects/chat, module by module."""
