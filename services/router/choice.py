"""Who scores a prompt: the learned head where there is one, else the rules."""

from typing import Protocol

from services.router.scoring import Rules, Scored
from services.router.vectors import Embedding
from shared.background import background
from shared.policy import Policy
from shared.policy.routing import RouterPolicy
from shared.service import Service


class Learned(Protocol):
    """A learned head that may change while the router runs."""

    def score(self, prompt: str, embedding: Embedding | None) -> Scored | None:
        """The score of a prompt; None where the rules are to be asked."""
        ...


class Choice:
    """Asks the head first, if there is one, and the rules where it says nothing."""

    def __init__(self, policy: RouterPolicy, learned: Learned | None = None) -> None:
        self._rules = Rules(policy)
        self._learned = learned

    def score(self, prompt: str, embedding: Embedding | None) -> Scored:
        """The score of a prompt, by whoever can say something of it."""
        if self._learned is not None and (found := self._learned.score(prompt, embedding)) is not None:
            return found
        return self._rules.score(prompt)


async def choosing(it: Service, policy: Policy) -> Choice:
    """Who scores by a policy; a head's file is looked at again and again for as long as the service runs.

    Raises:
        InvalidHead: the head's file can't be used.
    """
    rules = policy.router
    if rules.head is None:
        return Choice(rules)
    from services.router.learning.reload import WatchedHead  # for those who have a head

    head = WatchedHead(rules.head, policy.cache.embedder, it.clock)
    await it.enter(background(head.watch, name="learned head", clock=it.clock))
    return Choice(rules, head)
