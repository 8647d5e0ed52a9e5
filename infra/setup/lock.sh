#!/usr/bin/env bash
# Resolve the dependencies anew: one file of pins and hashes per extra, naming no package index.
set -euo pipefail
command -v uv >/dev/null || { echo "lock: needs uv (pip install uv)" >&2; exit 1; }
for extra in ingest cache router inference persistence trends local dev; do
  echo "resolving $extra"
  uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --python 3.11 \
    --extra "$extra" pyproject.toml --output-file "infra/requirements/$extra.txt" "$@"
done
# The benches add to what the tests have, and change nothing of it.
echo "resolving bench"
uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --python 3.11 \
  --extra bench --constraint infra/requirements/dev.txt pyproject.toml --output-file infra/requirements/bench.txt "$@"
# What one of them compares with contradicts those: it is installed apart, and runs in a process of its own.
echo "resolving bench-proxy"
uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --python 3.11 \
  --extra bench-proxy pyproject.toml --output-file infra/requirements/bench-proxy.txt "$@"
