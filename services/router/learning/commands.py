"""``forebay router train`` and ``eval``: make a learned head, and say what it is worth.

Loaded by the command line alone.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer
from rich.markup import escape

from shared.cli.options import HOME, Home, duration, err, fail, out, run, running, told

if TYPE_CHECKING:  # numpy and the embedder's runtime are for the commands that compute
    from services.router.learning.candidate import Measured
    from services.router.learning.head import Head
    from services.router.learning.rows import Labelled, Pair, Rating
    from services.router.learning.weights import Vectors
    from services.router.scoring import Rules
    from shared.policy import Policy

R = TypeVar("R", "Pair", "Rating")
CHUNK: Final = 256
# Below this share of chance in who answered, ratings compare little (see learning.ratings): what they say of a head is
# then as much about the router as about the models, and the gate can't tell.
ENOUGH_CHANCE: Final = 0.8

LINES: Final = "JSON lines, plain or gzip: see docs/routing.md."
Files = Annotated[list[Path], typer.Argument(help=LINES)]
PolicyFile = Annotated[Path | None, typer.Option("--policy", help="Policy with the rules to beat.")]


def add(router: typer.Typer) -> None:
    """Add these commands."""
    router.command()(train)
    router.command("eval")(evaluate)


def train(
    target: Annotated[Path, typer.Option("--out", help="Where the head goes.")],
    rows: Annotated[list[Path] | None, typer.Argument(help=LINES)] = None,
    from_feedback: Annotated[
        bool, typer.Option("--from-feedback", help="Train on the ratings that clients gave, instead of files.")
    ] = False,
    since: Annotated[str, typer.Option(help="With --from-feedback: how far back, 90m, 24h, 30d.")] = "30d",
    tenant: Annotated[str | None, typer.Option(help="With --from-feedback: only this tenant's ratings.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="With --from-feedback: the latest so many at the most.")] = 20_000,
    dsn: Annotated[str | None, typer.Option(help="PostgreSQL; default: the local stack's.")] = None,
    home: Home = HOME,
    policy: PolicyFile = None,
    share: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Of prompts its threshold sends to the stronger model.")
    ] = 0.25,
    held_out: Annotated[float, typer.Option(min=0.1, max=0.9, help="Share of the prompts to measure on.")] = 0.3,
    force: Annotated[bool, typer.Option("--force", help="Write it even if the rules are better.")] = False,
) -> None:
    """Train a head on a part of the rows and measure it on the rest; it is written if it is better than the rules."""
    if bool(rows) is from_feedback:
        fail("give files of rows, or --from-feedback: one of the two")
    with told():
        from services.router.learning import candidate
        from services.router.learning.rows import read

        chosen, rules = _policy(policy)
        embedder = _Embedder()
        given = (
            ([], _feedback(chosen, since, tenant, limit, dsn or running(home).postgres_dsn)) if not rows else read(rows)
        )
        labelled, vectors = _labelled(*given, chosen, embedder, guess=force, held_out=held_out)
        made = candidate.train(
            labelled,
            vectors,
            rules,
            embedder=embedder.version,
            now=datetime.now(UTC),
            held_out=held_out,
            share=share,
        )
        _show(made.measured, f"{made.measured.rows} prompts held out, {made.head.record.rows} trained on")
        assert made.measured.verdict is not None, "it was measured with a head"
        if not made.measured.verdict.passed and not force:
            fail(f"not written: the head has not earned its place (--force writes {target} all the same)")
        made.head.save(target)
        out.print(
            f'{made.head.version} written to {target}; the policy takes it up with  \\[router.head] file = "…"',
            highlight=False,
        )


def evaluate(
    rows: Files,
    head: Annotated[Path | None, typer.Option(help="The head to measure; without one, only the rules are.")] = None,
    policy: PolicyFile = None,
) -> None:
    """Show what the rules, and a head, are worth on labelled prompts."""
    with told():
        from services.router.learning import candidate
        from services.router.learning.head import Head
        from services.router.learning.rows import read

        chosen, rules = _policy(policy)
        embedder, learned = _Embedder(), None if head is None else Head.load(head)
        given = read(rows)
        if learned is None:
            labelled, _ = _labelled(*given, chosen, embedder, embedding=False)
            _show(candidate.measure(labelled, rules), f"{len(labelled)} prompts")
            return
        if learned.embedder != embedder.version:
            fail(f"{head}: made for the embedder {learned.embedder}; this one is {embedder.version}")
        pairs, rated = _unseen(given[0], learned), _unseen(given[1], learned)
        labelled, vectors = _labelled(pairs, rated, chosen, embedder)
        measured = candidate.measure(labelled, rules, candidate.scores_of(learned, labelled, vectors))
        _show(measured, f"{measured.rows} prompts, {learned.version}")


def _unseen(rows: Sequence[R], head: "Head") -> list[R]:
    """Those that the head was not trained on: on the others it would look better than it is."""
    kept = [row for row in rows if head.never_saw(row.prompt)]
    if len(kept) < len(rows):
        why = "the head was trained on these prompts" if head.seen.size else "the head may have been trained on these"
        err.print(f"{len(rows) - len(kept)} of {len(rows)} rows left out: {why}", highlight=False)
    return kept


def _feedback(policy: "Policy", since: str, tenant: str | None, limit: int, address: str) -> "list[Rating]":
    """The ratings of the two tiers that are compared."""
    from services.router.learning import feedback
    from shared import database

    now, back = datetime.now(UTC), duration(since, option="--since")

    async def work() -> "list[Rating]":
        async with database.pool(address, size=1) as pool:
            return await feedback.rated(pool, now - back, now, tenant=tenant, limit=limit)

    rated = run(work())
    ends = (policy.router.ladder[0], policy.router.ladder[-1])
    kept = [rating for rating in rated if rating.tier in ends]
    err.print(f"{len(rated)} ratings of answers that were bought in the last {escape(since)}", highlight=False)
    if len(kept) < len(rated):
        err.print(f"{len(rated) - len(kept)} of other tiers than {' and '.join(ends)} left out", highlight=False)
    return kept


class _Embedder:
    """The built-in embedder, loaded when it is first needed."""

    def __init__(self) -> None:
        from shared.embedding import weights

        self.version = f"{weights.MODEL}/{weights.version_of_vectors()}"
        self._real: Any = None

    def embed(self, texts: Sequence[str]) -> "Vectors":
        """Unit vectors of shape (len(texts), dimensions)."""
        import numpy as np

        from shared.embedding.builtin import Embedder

        self._real = self._real or Embedder()
        err.print(f"embedding {len(texts)} prompts: about a hundred a second", highlight=False)
        parts = [self._real.embed_now(texts[start : start + CHUNK]) for start in range(0, len(texts), CHUNK)]
        vectors: Vectors = np.concatenate(parts)
        return vectors


def _policy(file: Path | None) -> "tuple[Policy, Rules]":
    from services.router.scoring import Rules
    from shared.policy import load_policy
    from shared.settings import packaged_policy

    policy = load_policy(file or packaged_policy())
    if not policy.cache.embedder.builtin:
        fail(f"cache.embedder.model is {policy.cache.embedder.model!r}: heads are trained with the built-in one only")
    return policy, Rules(policy.router)


def _labelled(
    pairs: "Sequence[Pair]",
    rated: "Sequence[Rating]",
    policy: "Policy",
    embedder: _Embedder,
    *,
    embedding: bool = True,
    guess: bool = True,
    held_out: float = 0.0,
) -> "tuple[list[Labelled], Vectors]":
    """Rows to learn from and their vectors; gains are estimated where the rows are ratings."""
    import numpy as np

    from services.router.learning import ratings
    from services.router.learning.features import features
    from services.router.learning.rows import InvalidRows, labelled

    if pairs and rated:
        raise InvalidRows("rows of both kinds: give files of pairs, or files of ratings")
    if not pairs and not rated:
        raise InvalidRows("no rows are left")
    prompts = [row.prompt for row in (pairs or rated)]
    vectors = embedder.embed(prompts) if embedding or rated else np.empty((0, 0), dtype=np.float32)
    if pairs:
        return labelled(pairs), vectors
    described = np.array([features(prompt) for prompt in prompts])
    ladder = policy.router.ladder
    estimated = ratings.estimate(rated, described, vectors, weak=ladder[0], strong=ladder[-1], held_out=held_out)
    if estimated.by_chance < ENOUGH_CHANCE:
        said = "which tier answered was too little left to chance in these ratings: they compare little. Pin a random "
        said += "sample of requests to either tier, and rate those"
        if not guess:
            fail(f"{said} (--force trains on them all the same)")
        err.print(f"[yellow]{said}[/yellow]: what follows is a guess.", highlight=False)
    return estimated.rows, vectors


def _show(measured: "Measured", title: str) -> None:
    from rich.table import Table

    table = Table("score", "APGR", "CPT50 %", "CPT80 %", title=title, title_justify="left")
    for name, worth in measured.worth.items():
        cpt50, cpt80 = (f"{one.value:.1f} [{one.low:.1f}, {one.high:.1f}]" for one in (worth.cpt50, worth.cpt80))
        table.add_row(name, str(worth.apgr), cpt50, cpt80)
    out.print(table)
    if measured.verdict is not None:
        out.print(f"the gate: {measured.verdict}", highlight=False, markup=False)
