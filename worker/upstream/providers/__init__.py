"""The upstream APIs a worker can call, one module per protocol."""
