"""What LiteLLM's complexity router says of prompts, and how long it takes: a program of its own.

Reads a JSON list of prompts, writes ``{"scores": […], "microseconds": […]}``. Apart from the bench because importing
litellm changes much of a process, and because only inference may import it.
"""

import json
import os
import sys
import time
from typing import Any

CONFIG = {"tiers": {"SIMPLE": "a", "MEDIUM": "b", "COMPLEX": "c", "REASONING": "d"}}


def main() -> None:
    """Score standard input, as LiteLLM does by default."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or the import fetches a price list
    from litellm.router_strategy.complexity_router.complexity_router import ComplexityRouter

    nowhere: Any = None  # the router it would hand over to
    router = ComplexityRouter("auto", nowhere, CONFIG)
    scores, microseconds = [], []
    for prompt in json.load(sys.stdin):
        began = time.thread_time()
        scores.append(router.classify(prompt)[1])
        microseconds.append((time.thread_time() - began) * 1e6)
    json.dump({"scores": scores, "microseconds": microseconds}, sys.stdout)


if __name__ == "__main__":
    main()
