#!/usr/bin/env bash
# Install packages of the distribution: apt.sh PACKAGE…
set -euo pipefail
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

command -v apt-get >/dev/null || fail "missing: $*; this is no Debian, please install it by hand"
sudo=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || fail "missing: $*; installing it needs root or sudo (apt-get install $*)"
  sudo=(sudo)
fi

printf 'installing %s from the distribution\n' "$*" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() { "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >"$log" 2>&1; }
if ! install "$@"; then
  "${sudo[@]}" apt-get update >/dev/null 2>&1 || true # a fresh machine has no package lists
  install "$@" || { tail -n 15 "$log" >&2; fail "apt-get could not install $*"; }
fi
