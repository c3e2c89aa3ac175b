"""How much of earlier answers may be read for one request. Not here: what is read (response_history.py)."""

from shared.model.errors import RequestError


class Allowance:
    """Bytes of events that may still be read. A few bytes of references may lead to any number of them."""

    def __init__(self, most: int, refusal: RequestError) -> None:
        """`refusal` is raised if they are more."""
        self._most = most
        self._left = most
        self._refusal = refusal

    @property
    def used(self) -> int:
        """The bytes that were read."""
        return self._most - self._left

    def take(self, size: int) -> None:
        """Count so many bytes.

        Raises:
            RequestError: they are too many.
        """
        self._left -= size
        if self._left < 0:
            raise self._refusal
