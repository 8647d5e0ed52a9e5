"""Request ids that prove their origin.

An id is a UUID of 128 bits that any replica can make and check without asking anyone:

- a *new* id (version 7) is 48 bits of time in milliseconds, 48 random bits and a 26-bit signature;
- a *derived* id (version 8) begins with the hexadecimal digit ``f`` and carries 92 bits of a digest of the tenant and
  the client's own key instead, so that the same key always gives the same id, and the same signature.

The signature (HMAC-SHA-256, truncated) covers the tenant: an id that was made up, or that belongs to another tenant,
is known to be wrong before its row is written. Guessing one that passes takes 2**26 tries on average, and shows
"queued" for a request that does not exist, no more. See docs/decisions/0003-ids.md.
"""

import hashlib
import hmac
import secrets
from datetime import datetime
from typing import Final
from uuid import UUID

SIGNATURE_BITS: Final = 26
_SIGNATURE_MASK: Final = (1 << SIGNATURE_BITS) - 1
_VARIANT: Final = 0b10 << 62


class Identities:
    """Makes and checks ids under one secret."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def new(self, tenant: str, now: datetime) -> UUID:
        """An id nobody has; ids of later milliseconds are greater."""
        milliseconds = int(now.timestamp() * 1000)
        entropy = secrets.randbits(48)
        return self._signed(tenant, milliseconds, version=7, payload=entropy)

    def derived(self, tenant: str, *material: bytes) -> UUID:
        """The id that this tenant and this material always give."""
        digest = hashlib.sha256(b"\0".join((tenant.encode(), *material))).digest()
        bits = int.from_bytes(digest[:12], "big")
        return self._signed(tenant, (0xF << 44) | (bits >> 52), version=8, payload=bits & ((1 << 48) - 1))

    def ours(self, tenant: str, request_id: UUID) -> bool:
        """Whether this id was made here, for this tenant."""
        unsigned = request_id.int & ~_SIGNATURE_MASK
        return hmac.compare_digest(
            self._signature(tenant, unsigned).to_bytes(4, "big"), (request_id.int & _SIGNATURE_MASK).to_bytes(4, "big")
        )

    def _signed(self, tenant: str, prefix: int, *, version: int, payload: int) -> UUID:
        high = (prefix << 16) | (version << 12) | (payload >> 36)
        low = _VARIANT | ((payload & ((1 << 36) - 1)) << SIGNATURE_BITS)
        unsigned = (high << 64) | low
        return UUID(int=unsigned | self._signature(tenant, unsigned))

    def _signature(self, tenant: str, unsigned: int) -> int:
        message = tenant.encode() + b"\0" + unsigned.to_bytes(16, "big")
        return int.from_bytes(hmac.digest(self._secret, message, "sha256")[:4], "big") & _SIGNATURE_MASK
