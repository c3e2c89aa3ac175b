"""TCP ports: finding a free one, knowing that one is taken before it hurts, and keeping one for several processes.

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
    with _socket_for(host) as probe:
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return True
    return False


def hold_port(host: str, port: int) -> socket.socket:
    """Keep a port, until the socket is closed, for processes of ours that come and go and share it.

    They set `SO_REUSEPORT` (socket(7)) as it does. It does not listen, so that it is given no connections. Ask first
    whether the port is taken (`port_taken`): another program of the same user could share it too, unasked.

    Raises:
        OSError: it can't be bound.
    """
    holder = _socket_for(host)
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((host, port))
        # Otherwise a check of the port finds it free until a process listens.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError:
        holder.close()
        raise
    return holder


def family_of(host: str) -> socket.AddressFamily:
    """In which family an address or a name is listened on: IPv6 only where it is one of its addresses."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _socket_for(host: str) -> socket.socket:
    opened = socket.socket(family_of(host), socket.SOCK_STREAM)
    # As servers do: the remains of closed connections don't count.
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return opened
