"""Tests of gateway/dialects/ai_sdk, module by module."""
