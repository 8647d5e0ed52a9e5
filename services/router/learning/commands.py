"""``forebay router train`` and ``eval``: make a learned head, and say what it is worth.

Loaded by the command line alone.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from shared.cli.options import err, fail, out, told

if TYPE_CHECKING:  # numpy and the embedder's runtime are for the commands that compute
    from services.router.learning.candidate import Measured
    from services.router.learning.rows import Labelled
    from services.router.learning.weights import Vectors
    from services.router.scoring import Rules
    from shared.policy import Policy

CHUNK: Final = 256
# Below this share of chance in who answered, ratings compare little (see learning.ratings): what they say of a head is
# then as much about the router as about the models, and the gate can't tell.
ENOUGH_CHANCE: Final = 0.8

Files = Annotated[list[Path], typer.Argument(help="JSON lines, plain or gzip: see docs/routing.md.")]
PolicyFile = Annotated[Path | None, typer.Option("--policy", help="Policy with the rules to beat.")]


def add(router: typer.Typer) -> None:
    """Add these commands."""
    router.command()(train)
    router.command("eval")(evaluate)


def train(
    rows: Files,
    target: Annotated[Path, typer.Option("--out", help="Where the head goes.")],
    policy: PolicyFile = None,
    share: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Of prompts its threshold sends to the stronger model.")
    ] = 0.25,
    held_out: Annotated[float, typer.Option(min=0.1, max=0.9, help="Share of the prompts to measure on.")] = 0.3,
    force: Annotated[bool, typer.Option("--force", help="Write it even if the rules are better.")] = False,
) -> None:
    """Train a head on a part of the rows and measure it on the rest; it is written if it is better than the rules."""
    with told():
        from services.router.learning import candidate

        chosen, rules = _policy(policy)
        embedder = _Embedder()
        labelled, vectors = _labelled(rows, chosen, embedder, guess=force)
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
        from services.router.learning.rows import digest, part

        chosen, rules = _policy(policy)
        embedder, learned = _Embedder(), None if head is None else Head.load(head)
        if learned is not None and learned.embedder != embedder.version:
            fail(f"{head}: made for the embedder {learned.embedder}; this one is {embedder.version}")
        if learned is None:
            labelled, vectors = _labelled(rows, chosen, embedder, embedding=False)
            _show(candidate.measure(labelled, rules), f"{len(labelled)} prompts")
            return
        labelled, vectors = _labelled(rows, chosen, embedder)
        if digest(labelled) == learned.record.digest:
            err.print("the head was trained on these rows: only those it has not seen are measured", highlight=False)
            unseen = [i for i, row in enumerate(labelled) if part(row.prompt) < learned.record.held_out]
            labelled, vectors = [labelled[i] for i in unseen], vectors[unseen]
        measured = candidate.measure(labelled, rules, candidate.scores_of(learned, labelled, vectors))
        _show(measured, f"{measured.rows} prompts, {learned.version}")


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
    files: Sequence[Path], policy: "Policy", embedder: _Embedder, *, embedding: bool = True, guess: bool = True
) -> "tuple[list[Labelled], Vectors]":
    """The rows of files and their vectors; gains are estimated where the rows are ratings."""
    import numpy as np

    from services.router.learning import ratings
    from services.router.learning.features import features
    from services.router.learning.rows import InvalidRows, labelled, read

    pairs, rated = read(files)
    if pairs and rated:
        raise InvalidRows("rows of both kinds: give files of pairs, or files of ratings")
    prompts = [row.prompt for row in (pairs or rated)]
    vectors = embedder.embed(prompts) if embedding or rated else np.empty((0, 0), dtype=np.float32)
    if pairs:
        return labelled(pairs), vectors
    described = np.array([features(prompt) for prompt in prompts])
    estimated = ratings.estimate(
        rated, described, vectors, weak=policy.router.ladder[0], strong=policy.router.ladder[-1]
    )
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
