"""The AI SDK's UI messages, as pure translators."""
