"""A count of the bytes that a connection's other end on this machine has not read yet (Linux, sock_diag(7)).

With it an upstream can stop when its reader does: nothing that a sender can set bounds the bytes that a kernel takes
for a reader that is frozen or dead.
"""

import socket
import struct
from types import TracebackType
from typing import Self

_DIAG = 4  # NETLINK_SOCK_DIAG
_BY_FAMILY, _REQUEST = 20, 1
_ESTABLISHED_AND_ON = 0xFFF
_HEAD = struct.Struct("=IHHII")
_QUESTION = struct.Struct("=BBBxI")
_NO_COOKIE = b"\xff" * 8
# Behind the header and the question's first words are the two addresses and a time.
_RECEIVE_QUEUE = struct.Struct("=16x4x48x4xI")


class Unread:
    """A way to ask the kernel."""

    def __init__(self) -> None:
        """Open the way; raise OSError if the kernel has none."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _DIAG)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def of(self, peer: tuple[str, int], own: tuple[str, int]) -> int:
        """Bytes that have come to `peer` (address and port, IPv4) from `own`, and that its process has not read."""
        ends = struct.pack("!HH", peer[1], own[1])
        addresses = (socket.inet_aton(each[0]).ljust(16, b"\0") for each in (peer, own))
        question = _QUESTION.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, _ESTABLISHED_AND_ON)
        asked = b"".join([question, ends, *addresses, bytes(4), _NO_COOKIE])
        self._socket.send(_HEAD.pack(_HEAD.size + len(asked), _BY_FAMILY, _REQUEST, 0, 0) + asked)
        answer = self._socket.recv(4096)
        if _HEAD.unpack_from(answer)[1] != _BY_FAMILY:
            return 0  # it is closed
        unread: int = _RECEIVE_QUEUE.unpack_from(answer)[0]
        return unread
