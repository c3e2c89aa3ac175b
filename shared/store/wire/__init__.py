"""Commands, messages and answers in the form that Redis and arq give them. Pure."""
