"""Handle HTTP itself: connections, heads, bodies, CORS. Not here: routes (api), and authentication (admission)."""
