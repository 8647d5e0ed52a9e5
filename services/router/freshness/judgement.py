"""How long an answer may be reused: the category of its prompt, the time to live that follows, and why."""

from dataclasses import dataclass

from services.router.freshness.classifier import Classifier
from services.router.freshness.features import features, names
from services.router.freshness.language import other_than_english
from services.router.freshness.reading import HEAD_CHARS, Reader
from services.router.freshness.rules import speaks
from services.router.vectors import Embedding, vector_by
from shared.clock import SYSTEM_CLOCK, Clock
from shared.errors import StartupError
from shared.events import Freshness, Request
from shared.policy.freshness import HORIZONS, FreshnessPolicy, Horizon
from shared.words import word_pattern


@dataclass(frozen=True, slots=True)
class Cut:
    """From which probability of a change within a horizon a category is taken."""

    category: str
    horizon: Horizon
    probability: float


class FreshnessJudge:
    """Asks the policy's words, then the rules, then the classifier, and takes the default where nothing speaks."""

    def __init__(
        self, policy: FreshnessPolicy, clock: Clock = SYSTEM_CLOCK, classifier: Classifier | None = None
    ) -> None:
        """``classifier``: the one that ships, unless given; not loaded where the policy asks for none.

        Raises:
            StartupError: the classifier was made for another lexicon than the one that is installed.
        """
        self._policy = policy
        self._clock = clock
        self._reader = Reader()
        self._words = {name: word_pattern(each.words) for name, each in policy.categories.items() if each.words}
        self._cuts = _cuts(policy) if policy.classifier.enabled else []
        self._classifier = (classifier or Classifier.load()) if self._cuts else None
        if self._classifier and self._classifier.features != names(self._reader.classes):
            raise StartupError("freshness: the weights are for another lexicon; run python -m infra.training.freshness")

    def judge(self, request: Request, embedding: Embedding | None = None) -> Freshness:
        """Category, time to live and reason of a request's answer.

        Args:
            request: its ``Cache-Control: max-age`` bounds the time to live, and never lengthens it.
            embedding: of its prompt; None for none.
        """
        category, reason = self._category(request, embedding)
        ttl_s, most = self._policy.ttl_of(category, request.tenant), request.cache_control.max_age_s
        if most and most < ttl_s:  # 0 asks for a new answer, and says nothing of how long others may use it
            return Freshness(category=category, ttl_s=most, reason=reason, max_age_s=most)
        return Freshness(category=category, ttl_s=ttl_s, reason=reason)

    def _category(self, request: Request, embedding: Embedding | None) -> tuple[str, str]:
        prompt, this_year = request.prompt, self._clock.now().year
        for name, words in self._words.items():
            if match := words.search(prompt, 0, HEAD_CHARS):
                return name, f"the prompt says {match[0].lower()!r}"
        reading = self._reader.read(prompt)
        for name, category in self._policy.categories.items():
            for rule in category.rules:
                if evidence := speaks(rule, reading, this_year):
                    return name, f"{rule}: {evidence!r}"
        english = not other_than_english(reading)
        default = self._policy.default_of(request.tenant, english=english)
        if not english:
            return default.category, f"not English: {default.name}"
        if self._classifier is None:
            return default.category, f"nothing in the prompt says that the answer changes: {default.name}"
        known = vector_by(self._classifier.embedder, embedding)
        seen = features(reading, self._reader.classes, this_year)
        chances = self._classifier.probabilities(seen, known)
        by = "classifier" if known is not None else "classifier without the embedding"
        for cut in self._cuts:
            if (chance := chances[cut.horizon]) >= cut.probability:
                return cut.category, f"{by}: {chance:.2f} that the answer changes {_within(cut.horizon)}"
        told = ", ".join(f"{chances[cut.horizon]:.2f} {_within(cut.horizon)}" for cut in self._cuts)
        return default.category, f"{by}: the answer changes with probability {told}: {default.name}"


def _within(horizon: Horizon) -> str:
    return "at all" if horizon == "ever" else f"within {horizon}"


def _cuts(policy: FreshnessPolicy) -> list[Cut]:
    """The shortest horizon first, then the highest probability: in another order the one would hide the other."""
    cuts = [
        Cut(name, category.changes_within, category.probability)
        for name, category in policy.categories.items()
        if category.changes_within and category.probability
    ]
    return sorted(cuts, key=lambda cut: (HORIZONS.index(cut.horizon), -cut.probability))
