"""Bound the bytes of earlier answers that one request may read. Not here: the reading (response_history.py)."""

from shared.model.errors import RequestError


class Allowance:
    """Count the bytes of events that may still be read. A few bytes of references may lead to any number of them."""

    def __init__(self, most: int, refusal: RequestError) -> None:
        """Allow `most` bytes; `refusal` is raised if more are taken."""
        self._most = most
        self._left = most
        self._refusal = refusal

    @property
    def used(self) -> int:
        """Return the number of bytes that were read."""
        return self._most - self._left

    def take(self, size: int) -> None:
        """Count `size` more bytes.

        Raises:
            RequestError: the total exceeds the allowance.
        """
        self._left -= size
        if self._left < 0:
            raise self._refusal
