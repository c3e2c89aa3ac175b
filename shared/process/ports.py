"""Find a free TCP port, check early that one is taken, and hold one for several processes.

Not here: listening on them.
"""

import errno
import random
import socket

# Below the range from which the kernel takes ports for outgoing connections: while a part restarts, its clients
# try its port again and again, and could otherwise be given that very port, or connect to themselves.
_PRIVATE = range(20_000, 30_000)


def free_port(host: str = "127.0.0.1") -> int:
    """Find a port without a listener.

    Raises:
        OSError: `host` is not an address of this machine.
    """
    while True:
        port = random.choice(_PRIVATE)
        if not port_taken(host, port):
            return port


def port_taken(host: str, port: int) -> bool:
    """Return whether a program already listens on a port.

    Raises:
        OSError: `host` is not an address of this machine, or the port needs more rights than this process has.
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
    """Hold a port, until the socket is closed, for Tailrace's processes that share it and may restart.

    They set `SO_REUSEPORT` (socket(7)) as the socket does. The socket does not listen, so that it gets no connections.
    Check first that the port is not taken (`port_taken`): another program of the same user could share it too.

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
    """Return the family in which to listen on an address or a name: IPv6 only if it is one of its addresses."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _socket_for(host: str) -> socket.socket:
    opened = socket.socket(family_of(host), socket.SOCK_STREAM)
    # As servers do: the remains of closed connections don't count.
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return opened
