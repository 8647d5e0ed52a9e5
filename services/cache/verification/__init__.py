"""Whether two similar prompts ask the same: guards that refuse with a reason, and a classifier for what they leave."""

from services.cache.verification.verifier import Pair, Verdict, Verifier

__all__ = ["Pair", "Verdict", "Verifier"]
