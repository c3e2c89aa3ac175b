"""Read the URLs of receivers: public ones, and those that the operator allows."""

from ipaddress import ip_address

import pytest

from shared.model.errors import InvalidRequest
from shared.model.webhooks.target import URL_CHARS, AllowedTargets, read_target

NONE = AllowedTargets()
LOCAL = AllowedTargets.of(["127.0.0.0/8", "[::1]", "Hooks.Internal", "10.1.2.3"])
PRIVATE = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fc00::1",
    "fe80::1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not NONE.allow_address(ip_address(address))
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(InvalidRequest, match="TAILRACE_WEBHOOK_ALLOW") as refused:
        read_target(f"https://{host}/hook", NONE, "webhook.url")
    assert refused.value.param == "webhook.url"


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_a_public_address_is_allowed(address: str) -> None:
    assert NONE.allow_address(ip_address(address))


@pytest.mark.parametrize("address", ["127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1", "10.1.2.3"])
def test_an_address_of_an_allowed_network_is_allowed(address: str) -> None:
    assert LOCAL.allow_address(ip_address(address))


def test_an_address_beside_the_allowed_networks_is_refused() -> None:
    assert not LOCAL.allow_address(ip_address("10.1.2.4"))


def test_an_allowed_host_may_be_called_at_any_address() -> None:
    assert LOCAL.allow_host("hooks.internal")
    assert LOCAL.allow_host("hooks.internal.")
    assert not LOCAL.allow_host("other.internal")


@pytest.mark.parametrize("entry", ["", "10.0.0.1/8", "a b", "http://hooks.internal", "127.1", "-a"])
def test_an_entry_that_is_neither_host_nor_network_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="host name, an address or a network"):
        AllowedTargets.of([entry])


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://hooks.example.com", "hooks.example.com", 443),
        ("http://Hooks.Example.com./a?b=c", "hooks.example.com.", 80),
        ("https://hooks_1.example.com:8443/x", "hooks_1.example.com", 8443),
    ],
)
def test_a_url_with_a_name_has_its_parts(url: str, host: str, port: int) -> None:
    target = read_target(url, NONE, "url")
    assert (target.url, target.host, target.port, target.address) == (url, host, port, None)


def test_a_url_with_an_address_has_the_address() -> None:
    assert read_target("http://[::1]:9000/", LOCAL, "url").address == ip_address("::1")
    assert read_target("https://8.8.8.8/", NONE, "url").address == ip_address("8.8.8.8")


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST.", "api.localhost"])
def test_the_machines_own_name_is_refused_unless_it_is_allowed(name: str) -> None:
    with pytest.raises(InvalidRequest, match="is not public"):
        read_target(f"http://{name}/", NONE, "url")
    assert read_target(f"http://{name}/", AllowedTargets.of([name.lower().rstrip(".")]), "url").port == 80


@pytest.mark.parametrize(
    "url",
    [
        None,
        7,
        "",
        "hooks.example.com",
        "ftp://hooks.example.com",
        "file:///etc/passwd",
        "https://",
        "https:///path",
        "https://hooks.example.com:0/",
        "https://hooks.example.com:99999/",
        "https://hooks.example.com:x/",
        "https://[::1",
        "https://hooks .example.com/",
        "https://hooks.example.com\\@10.0.0.1/",
        "https://hooks.example.com/\r\nX: y",
        "https://höoks.example.com/",
        "https://127.1/",
        "https://0x7f.1/",
        "https://2130706433/",
        "https://hooks..example.com/",
        "https://" + "a" * URL_CHARS,
    ],
)
def test_a_url_that_is_no_address_of_a_receiver_is_refused(url: object) -> None:
    with pytest.raises(InvalidRequest, match=r"https://hooks\.example\.com/tailrace"):
        read_target(url, NONE, "url")


@pytest.mark.parametrize(
    "url", ["https://me:secret@hooks.example.com/", "https://me@hooks.example.com/", "https://@a/"]
)
def test_a_url_with_credentials_is_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(InvalidRequest, match="no user and no password") as refused:
        read_target(url, NONE, "url")
    assert "secret" not in str(refused.value)
