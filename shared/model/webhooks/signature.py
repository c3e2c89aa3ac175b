"""Sign a webhook as Standard Webhooks 1.0 says: an HMAC-SHA256 over the delivery's id, its time and its body.

Pure: randomness and time come in as values. Not here: sending (worker/webhooks), and storing secrets (shared/store).
"""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Final

SECRET_BYTES: Final = 32
"""The specification allows 24 to 64."""
_PREFIX: Final = "whsec_"


def secret_of(randomness: bytes) -> str:
    """Make a signing secret of `SECRET_BYTES` random bytes."""
    if len(randomness) != SECRET_BYTES:
        raise ValueError(f"A signing secret is made of {SECRET_BYTES} bytes, not of {len(randomness)}.")
    # Receivers decode the standard alphabet: Python's decoder drops the letters of the URL-safe one silently.
    return _PREFIX + b64encode(randomness).decode()


def signature_headers(secrets: Sequence[str], delivery_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """Return the headers of one attempt. While a secret is rotated there are two secrets, each with its signature.

    `timestamp_s` is the time of the attempt: receivers refuse one that is five minutes old.
    """
    signed = f"{delivery_id}.{timestamp_s}.".encode() + body
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(_signature(secret, signed) for secret in secrets),
    }


def _signature(secret: str, signed: bytes) -> str:
    key = b64decode(secret.removeprefix(_PREFIX), validate=True)
    return "v1," + b64encode(hmac.digest(key, signed, "sha256")).decode()
