"""Contract tests of the real openai client against an upstream that misbehaves on a real socket."""
