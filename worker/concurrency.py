"""Stub."""


class Concurrency:
    """Stub."""

    async def acquire(self, provider: str, job_id: str, wait_s: float) -> bool:
        """Stub."""
        return True

    async def release(self, provider: str, job_id: str) -> None:
        """Stub."""
