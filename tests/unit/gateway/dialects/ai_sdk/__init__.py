"""Test gateway/dialects/ai_sdk, module by module."""
