"""Tests of gateway/dialects/chat, module by module."""
