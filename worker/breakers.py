"""Stub."""


class Breakers:
    """Stub."""

    async def allows(self, provider: str, model: str) -> bool:
        """Stub."""
        return True

    def succeeded(self, provider: str, model: str) -> None:
        """Stub."""

    def failed(self, provider: str, model: str) -> None:
        """Stub."""
