"""Pure: secrets, and the headers of a request by Standard Webhooks 1.0."""

import base64
import hashlib
import hmac
from collections.abc import Sequence

SECRET_BYTES = 32  # 24 to 64 are allowed
_PREFIX = "whsec_"


def secret_text(secret: bytes) -> str:
    """Return a secret as its owner gets it, for any library of Standard Webhooks."""
    return f"{_PREFIX}{base64.b64encode(secret).decode()}"


def signature(secrets: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """Return the header webhook-signature: one signature for each secret, with spaces between."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digests = (hmac.digest(each, signed, hashlib.sha256) for each in secrets)
    return " ".join(f"v1,{base64.b64encode(each).decode()}" for each in digests)


def headers(
    secrets: Sequence[bytes], host: str, message_id: str, timestamp: int, body: bytes
) -> dict[str, str]:
    """Return all headers of a request; the timestamp is in seconds since 1970."""
    return {
        "Host": host,
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "User-Agent": "Postrider",
        "Accept": "*/*",
        "Accept-Encoding": "identity",  # an answer that unpacks to gigabytes is not asked for
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(secrets, message_id, timestamp, body),
    }
