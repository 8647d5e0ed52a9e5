"""How long an answer may be reused: the category of a prompt."""

from services.router.signals import ANALYSED_CHARS
from shared.events import Freshness
from shared.policy.freshness import FreshnessPolicy
from shared.words import word_pattern


class FreshnessRules:
    """Picks the first category whose words occur in the prompt, else the default."""

    def __init__(self, policy: FreshnessPolicy) -> None:
        self._policy = policy
        self._patterns = [(name, word_pattern(category.words)) for name, category in policy.categories.items()]

    def judge(self, prompt: str) -> Freshness:
        """The category of a prompt, its time to live, and why."""
        for name, pattern in self._patterns:
            if match := pattern.search(prompt, 0, ANALYSED_CHARS):
                return self._freshness(name, f"the prompt says {match[0].lower()!r}")
        return self._freshness(self._policy.default, "nothing in the prompt says that the answer changes")

    def _freshness(self, category: str, reason: str) -> Freshness:
        return Freshness(category=category, ttl_s=self._policy.categories[category].ttl, reason=reason)
