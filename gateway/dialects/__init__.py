"""Pure translators between job events and the wire formats that clients speak."""
