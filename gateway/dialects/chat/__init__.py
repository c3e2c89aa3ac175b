"""OpenAI's chat completions, as pure translators."""
