"""The guards of the cache's verification, asked about two texts."""

from services.cache.verification.guards import Pairing, Reason, objection


def differs(asked: str, stored: str) -> Reason | None:
    """What the guards alone have against one answer for both; None when none speaks."""
    return objection(Pairing(asked, stored))
