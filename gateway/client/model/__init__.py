"""Hold the client's values and rules: its view of a job, and how it shows it. Pure."""
