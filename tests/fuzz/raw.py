"""Raw bytes in place of a request: good ones that are cut, doubled, mixed with others, or no HTTP at all."""

from random import Random

_HEAD = (
    b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sk-alice\r\nContent-Type: application/json\r\n"
)
_BODY = b'{"model":"mock","messages":[{"role":"user","content":"a"}]}'
SEEDS = (
    _HEAD + b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(_BODY), _BODY),
    _HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(_BODY), _BODY),
    b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sk-alice\r\nConnection: close\r\n\r\n",
    b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n" * 3,
    b"GET /%1b%5b2J?a=%ff HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET http://127.0.0.1/v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /v1/jobs HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
)
_PIECES = (
    *(b"\r\n", b"\n", b"\r", b"\x00", b" ", b"\t", b":", b"\xff", b"\x1b[2J", b"%", b"0\r\n\r\n", b"\r\n\r\n"),
    *(b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: b\r\n"),
    *(b"Transfer-Encoding: gzip, chunked\r\n", b"Expect: 100-continue\r\n", b"Authorization: Bearer sk-bob\r\n"),
    *(b"a: " + b"x" * 70_000 + b"\r\n", b"/" + b"a" * 70_000, b"Content-Length: 99999999999999999999\r\n"),
)


def raw_request(rng: Random) -> bytes:
    """Return the next bytes."""
    data = rng.choice(SEEDS)
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            data = data[:at] + rng.choice(_PIECES) + data[at:]
        elif kind == 1:
            data = data[:at] + data[at + rng.randrange(1, 8) :]
        elif kind == 2:
            data = data[:at] + rng.randbytes(rng.randrange(1, 4)) + data[at:]
        else:
            data = data[:at] + rng.choice(SEEDS)
    return data
