"""Provide the command line's client: `tailrace submit`, `tail`, `cancel`, `jobs` and `dead-letters`.

It knows a gateway only by HTTP, as any other client does. Not here: anything of the gateway itself.
"""
