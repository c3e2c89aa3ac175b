"""Test the gateway's address for callers on its own machine."""

import pytest

from gateway.model.address import base_url, bracketed, host_of, is_loopback


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "http://127.0.0.1:80"), ("::", "http://[::1]:80"), ("::1", "http://[::1]:80"), ("me", "http://me:80")],
)
def test_the_address_can_be_called_whatever_the_gateway_binds_to(host: str, url: str) -> None:
    assert base_url(host, 80) == url


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_these_are_this_machines_own(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.com", ""])
def test_these_are_not(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(("host", "written"), [("::1", "[::1]"), ("127.0.0.1", "127.0.0.1"), ("me", "me")])
def test_an_ipv6_address_stands_in_brackets(host: str, written: str) -> None:
    assert bracketed(host) == written


@pytest.mark.parametrize(
    ("header", "host"),
    [("Chat.Example", "chat.example"), (" a:8080 ", "a"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("", "")],
)
def test_the_host_of_a_header_has_no_port(header: str, host: str) -> None:
    assert host_of(header) == host
