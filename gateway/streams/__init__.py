"""Send event streams: one reader for each caller, from the replay log to the socket."""
