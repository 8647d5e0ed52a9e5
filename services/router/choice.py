"""Who scores a prompt: the learned head where there is one, else the rules."""

from typing import Protocol

from services.router.scoring import Rules, Scored
from shared.background import background
from shared.events import CacheKey
from shared.policy.routing import RouterPolicy
from shared.service import Service


class Learned(Protocol):
    """A learned head that may change while the router runs."""

    def score(self, prompt: str, key: CacheKey | None) -> tuple[Scored, float] | None:
        """The score of a prompt, and the least with which it goes up; None where the rules are to be asked."""
        ...


class Choice:
    """Asks the head first, if there is one, and the rules where it says nothing."""

    def __init__(self, policy: RouterPolicy, learned: Learned | None = None) -> None:
        self._rules = Rules(policy)
        self._threshold = policy.threshold
        self._learned = learned

    def score(self, prompt: str, key: CacheKey | None) -> tuple[Scored, float]:
        """The score of a prompt, and the threshold that goes with it: scores of two scorers can't be compared.

        ``key`` has the prompt's embedding, where there is one.
        """
        if self._learned is not None and (found := self._learned.score(prompt, key)) is not None:
            return found
        return self._rules.score(prompt), self._threshold


async def choosing(it: Service) -> Choice:
    """What the policy asks for; a head's file is looked at again and again for as long as the service runs.

    Raises:
        InvalidHead: the head's file can't be used.
    """
    policy = it.policy.router
    if policy.head is None:
        return Choice(policy)
    from services.router.learning.reload import WatchedHead  # numpy's 30 MB are for those who have a head

    head = WatchedHead(policy.head, it.policy.cache.embedder, it.clock)
    await it.enter(background(head.watch(), name="learned head"))
    return Choice(policy, head)
