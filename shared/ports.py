"""TCP ports: finding a free one, and knowing that one is taken before it hurts.

Above: the embedded Valkey and `tailrace up`. Not here: listening on them.
"""

import errno
import random
import socket

# Below the range from which the kernel takes ports for outgoing connections: while a part restarts, its clients
# try its port again and again, and could otherwise be given that very port, or connect to themselves.
_PRIVATE = range(20_000, 30_000)


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now.

    Raises:
        OSError: `host` is no address of this machine.
    """
    while True:
        port = random.choice(_PRIVATE)
        if not port_taken(host, port):
            return port


def port_taken(host: str, port: int) -> bool:
    """Whether somebody listens on it already.

    Raises:
        OSError: `host` is no address of this machine, or the port needs more rights than we have.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        # As servers do: the remains of closed connections don't count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return True
    return False
