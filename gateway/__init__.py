"""The HTTP process: accepts prompts, answers with jobs, and holds the event streams of their readers."""
