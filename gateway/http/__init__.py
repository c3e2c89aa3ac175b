"""HTTP as such: connections, heads, bodies, CORS. Not here: routes, and who may call them."""
