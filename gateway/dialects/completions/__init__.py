"""OpenAI's legacy completions, as pure translators: a chat with one message."""
