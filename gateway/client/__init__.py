"""The command line's client: `tailrace submit`, `tail`, `cancel` and `jobs`.

It knows a gateway only by HTTP, as any other client does. Above: gateway/cli.py. Below: shared's words for events and
errors. Not here: anything of the gateway itself.
"""
