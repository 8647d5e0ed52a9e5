"""``make chaos``: rounds of load and faults, a table of what became of the requests, and one line of JSON."""

import argparse
import asyncio
import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from random import SystemRandom

import structlog
from rich.console import Console
from rich.table import Table

from tests.chaos.faults import CLUSTER, ONE_BROKER, Fault
from tests.chaos.pool import system
from tests.chaos.rounds import Round, played

COLUMNS = ("fault", "requests", "accepted", "unknown", "lost", "twice", "other", "dead", "gap s", "drain s", "ends")


def main() -> None:
    """Play, tell, and exit with 1 if anything was lost, answered twice, or otherwise wrong."""
    known = {fault.name: fault for fault in (*ONE_BROKER, *CLUSTER)}
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=SystemRandom().getrandbits(32), help="of an earlier run")
    parser.add_argument("--requests", type=int, default=1000, help="in each round")
    parser.add_argument("--rate", type=float, default=40.0, help="requests per second")
    parser.add_argument("--only", choices=known, action="append", help="this fault, and no other; may be repeated")
    said = parser.parse_args()
    logging.disable()  # that connections are lost is what this is about
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    began = time.monotonic()
    _say(f"seed {said.seed}")
    chosen = said.only or known
    rounds: list[Round] = []
    whole = True
    try:
        asyncio.run(_play([known[name] for name in chosen], said.seed, said.requests, said.rate, rounds))
    except KeyboardInterrupt:
        whole = False
        _say("stopped; this is what was played until then")
    _tell(rounds, said.seed, time.monotonic() - began)
    sys.exit(0 if whole and all(one.flawless for one in rounds) else 1)


async def _play(faults: Sequence[Fault], seed: int, requests: int, per_s: float, rounds: list[Round]) -> None:
    """Play a round for each fault, and add it to the list when it is over."""
    for clustered in (False, True):
        chosen = [fault for fault in faults if (fault in CLUSTER) == clustered]
        if chosen:
            async with system(clustered=clustered) as struck:
                for fault in chosen:
                    one = await played(struck, fault, seed=seed, requests=requests, per_s=per_s)
                    rounds.append(one)
                    _say(_summary(one))


def _summary(one: Round) -> str:
    wrong = "".join(f"\n  {violation.kind}: {violation.what}" for violation in one.violations[:20])
    dead = f"\n  dead letters: {dict(one.dead)}" if one.dead else ""
    return f"{one.fault}: {one.accepted} accepted, drained after {one.drain_s:.0f} s{wrong}{dead}"


def _tell(rounds: Sequence[Round], seed: int, took_s: float) -> None:
    table = Table(title=f"Chaos, seed {seed}, {took_s:.0f} s", title_justify="left")
    for heading in COLUMNS:
        table.add_column(heading, justify="left" if heading in {"fault", "ends"} else "right")
    for one in rounds:
        kinds = one.kinds
        other = kinds.total() - kinds["lost"] - kinds["twice"]
        counts = (one.requests, one.accepted, one.unknown, kinds["lost"], kinds["twice"], other, sum(one.dead.values()))
        ends = ", ".join(f"{count} {source}" for source, count in one.sources.items())
        table.add_row(one.fault, *map(str, counts), f"{one.gap_s:.1f}", f"{one.drain_s:.0f}", ends)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    told = [{name: value for name, value in asdict(one).items() if name != "violations"} | one.kinds for one in rounds]
    totals = {name: sum(getattr(one, name) for one in rounds) for name in ("requests", "accepted", "unknown")}
    wrong = {kind: sum(one.kinds[kind] for one in rounds) for kind in ("lost", "twice")}
    _say(json.dumps({"chaos": {"seed": seed, "took_s": round(took_s, 1), **totals, **wrong}, "rounds": told}))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
