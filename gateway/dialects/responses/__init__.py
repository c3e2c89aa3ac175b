"""OpenAI's Responses, as pure translators."""
