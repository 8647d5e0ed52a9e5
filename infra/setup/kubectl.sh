#!/usr/bin/env bash
# The tests render the Kubernetes manifests; Debian's kubectl will do.
set -euo pipefail
command -v kubectl >/dev/null && exit 0
exec "$(dirname "$0")/apt.sh" kubernetes-client
