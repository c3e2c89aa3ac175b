"""Test ports: free ones, taken ones, and one that several processes share."""

import socket

import pytest

from shared.process.ports import free_port, hold_port, port_taken

HERE = "127.0.0.1"


def bound(port: int, *, share: bool) -> socket.socket:
    opened = socket.socket()
    try:
        if share:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        opened.bind((HERE, port))
    except OSError:
        opened.close()
        raise
    return opened


def test_a_free_port_is_free() -> None:
    assert not port_taken(HERE, free_port())


@pytest.mark.parametrize("sharing", [False, True])
def test_a_port_with_a_listener_is_taken_whether_or_not_it_is_shared(sharing: bool) -> None:
    with socket.create_server((HERE, 0), reuse_port=sharing) as listener:
        assert port_taken(HERE, listener.getsockname()[1])


def test_a_held_port_is_open_to_processes_that_share_it() -> None:
    port = free_port()
    with hold_port(HERE, port):
        for _ in range(2):
            with bound(port, share=True) as one, bound(port, share=True) as other:
                one.listen()
                other.listen()
        with pytest.raises(OSError, match="in use"):
            bound(port, share=False)
    with bound(port, share=False):
        pass


@pytest.mark.parametrize("host", [HERE, "localhost"])
def test_a_held_port_is_taken_before_a_process_listens(host: str) -> None:
    port = free_port(host)
    with hold_port(host, port):
        assert port_taken(host, port)
        assert port_taken(HERE, port)


def test_the_holder_of_a_port_gets_no_connections() -> None:
    port = free_port()
    with hold_port(HERE, port), pytest.raises(ConnectionRefusedError):
        socket.create_connection((HERE, port))


def test_a_port_with_an_exclusive_listener_can_not_be_held() -> None:
    with socket.create_server((HERE, 0)) as listener, pytest.raises(OSError, match="in use"):
        hold_port(HERE, listener.getsockname()[1])
