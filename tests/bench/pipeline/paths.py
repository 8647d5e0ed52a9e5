"""Where the processes of a bench find what it compares with."""

import os
from collections.abc import Mapping
from pathlib import Path

from tests.bench.surge_designs import Place


def environment(place: Place) -> Mapping[str, str]:
    """Of a process that may import the frameworks, and the project."""
    return os.environ | {
        "PYTHONPATH": os.pathsep.join((str(place.packages), str(Path.cwd()))),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "OMP_NUM_THREADS": "1",
    }
