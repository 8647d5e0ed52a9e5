#!/usr/bin/env bash
# Make sure there is a RabbitMQ to start private nodes from. The distribution's own node, if its package starts one, is
# neither used nor changed.
set -euo pipefail
[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] && exit 0
command -v rabbitmq-server >/dev/null && exit 0
if command -v brew >/dev/null; then
  printf 'installing rabbitmq with brew\n' >&2
  exec brew install --quiet rabbitmq
fi
exec "$(dirname "$0")/apt.sh" rabbitmq-server
