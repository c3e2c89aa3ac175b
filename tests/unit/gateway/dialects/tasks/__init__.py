"""Test gateway/dialects/tasks, module by module."""
