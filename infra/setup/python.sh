#!/usr/bin/env bash
# Install the pinned dependencies and the project itself into a virtual environment: python.sh VENV
set -euo pipefail
venv=$1
python=${PYTHON:-python3}

say() { printf '%s\n' "$*" >&2; }
fail() { say "setup: $*"; exit 1; }

command -v "$python" >/dev/null || fail "no $python: install Python 3.11 or newer, or set PYTHON"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "$("$python" --version) is too old: Forebay needs Python 3.11 or newer; set PYTHON to one"

if ! "$venv/bin/python" -c '' 2>/dev/null; then
  say "making $venv"
  if ! "$python" -m venv "$venv" >/dev/null 2>&1; then
    package=$("$python" -c 'import sys; print("python{}.{}-venv".format(*sys.version_info))')
    "$(dirname "$0")/apt.sh" "$package"
    "$python" -m venv "$venv" || fail "cannot make a virtual environment in $venv"
  fi
fi

say "installing Python packages into $venv (a minute or two the first time)"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! "$venv/bin/python" -m pip install --no-deps --require-hashes -r infra/requirements/dev.txt >"$log" 2>&1; then
  grep -v '^WARNING' "$log" | tail -n 20 >&2
  fail "pip could not install infra/requirements/dev.txt"
fi
if ! "$venv/bin/python" -m pip install --no-deps --no-build-isolation -e . >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  fail "pip could not install the project"
fi
