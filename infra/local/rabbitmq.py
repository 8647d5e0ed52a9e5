"""A private RabbitMQ node: own data, cookie, ports and name service, so that it never meets the host's broker."""

import os
import secrets
import shutil
from functools import partial
from pathlib import Path

from infra.local import readiness
from infra.local.errors import StackError
from infra.local.home import Home, write
from infra.local.ports import LOOPBACK
from infra.local.program import Program

PORTS = ("rabbitmq", "rabbitmq-management", "rabbitmq-distribution", "epmd")
# The wrappers that packages put on the PATH switch user and folder; these are the scripts behind them.
SCRIPTS = (
    Path("/usr/lib/rabbitmq/bin/rabbitmq-server"),
    Path("/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server"),
    Path("/usr/local/opt/rabbitmq/sbin/rabbitmq-server"),
)
DEBIAN_WRAPPER = Path("/usr/sbin/rabbitmq-server")
TOOLS = "/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin"

# Small bounds, so that a laptop with little memory and disk neither runs full nor sees the broker refuse publishes.
# The raft log (512 MB by default) is held in memory too, up to three times.
CONFIGURATION = """\
management.tcp.ip = {host}
management.tcp.port = {management}
disk_free_limit.absolute = 50MB
collect_statistics_interval = 1000
vm_memory_high_watermark.absolute = 1GB
raft.wal_max_size_bytes = 67108864
log.console.level = warning
"""
DISTRIBUTION_ON_LOOPBACK = "[{kernel, [{inet_dist_use_interface, {127, 0, 0, 1}}]}].\n"


def program(home: Home, ports: dict[str, int]) -> Program:
    """The broker as a program; writes its configuration.

    Args:
        home: of the stack.
        ports: one for each of ``PORTS``.

    Raises:
        StackError: when RabbitMQ is not installed.
    """
    script = server_script()
    configure(home.rabbitmq, ports["rabbitmq-management"])
    return Program(
        name="rabbitmq",
        command=(str(script), "-noinput"),
        port=ports["rabbitmq"],
        ready=partial(ready, ports["rabbitmq"], ports["rabbitmq-management"]),
        env=environment(home.rabbitmq, ports),
        clean_env=True,
        stop_wait_s=30,
        priority=10,
    )


def ready(port: int, management: int) -> bool:
    """Whether both the broker and its management API take connections."""
    return readiness.amqp_ok(port) and readiness.listens(management)


def url(port: int) -> str:
    """The broker's address, with the default user, who is welcome from loopback only."""
    return f"amqp://guest:guest@{LOOPBACK}:{port}/%2F"


def server_script() -> Path:
    """The script that becomes the node.

    Raises:
        StackError: when RabbitMQ is not installed.
    """
    found = shutil.which("rabbitmq-server", path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/opt/homebrew/sbin")
    on_path = [Path(found)] if found and Path(found).resolve() != DEBIAN_WRAPPER else []
    for script in (*SCRIPTS, *on_path):
        if script.exists():
            return script
    raise StackError(
        "RabbitMQ is not installed: `make setup` installs it, and so does `apt-get install rabbitmq-server` "
        "(Debian, Ubuntu) or `brew install rabbitmq` (macOS)"
    )


def configure(folder: Path, management: int) -> None:
    """Write the node's configuration, and once its cookie."""
    folder.mkdir(mode=0o700, exist_ok=True)
    write(folder / "rabbitmq.conf", CONFIGURATION.format(host=LOOPBACK, management=management))
    write(folder / "advanced.config", DISTRIBUTION_ON_LOOPBACK)
    write(folder / "enabled_plugins", "[rabbitmq_management].\n")
    write(folder / "environment.conf", "")
    cookie = folder / ".erlang.cookie"
    if not cookie.exists():
        write(cookie, secrets.token_hex(20), mode=0o400)


def environment(folder: Path, ports: dict[str, int]) -> dict[str, str]:
    """All environment the node gets; nothing is left to a default that could point at the host's broker."""
    files = {
        "RABBITMQ_MNESIA_BASE": "data",
        "RABBITMQ_LOG_BASE": "log",
        "RABBITMQ_PID_FILE": "pid",
        "RABBITMQ_CONFIG_FILE": "rabbitmq.conf",
        "RABBITMQ_ADVANCED_CONFIG_FILE": "advanced.config",
        "RABBITMQ_ENABLED_PLUGINS_FILE": "enabled_plugins",
        "RABBITMQ_CONF_ENV_FILE": "environment.conf",
        "RABBITMQ_GENERATED_CONFIG_DIR": "generated",
        "ERL_CRASH_DUMP": "erl_crash.dump",
    }
    return {
        "HOME": str(folder),
        "PATH": f"{os.environ.get('PATH', '')}:{TOOLS}",
        "LANG": "C.UTF-8",
        "RABBITMQ_NODENAME": "forebay@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
        "RABBITMQ_NODE_PORT": str(ports["rabbitmq"]),
        "RABBITMQ_DIST_PORT": str(ports["rabbitmq-distribution"]),
        # Without it the script stays as the node's parent, and a signal to the script is not one to the node.
        "RABBITMQ_ALLOW_INPUT": "1",
        "RABBITMQ_LOGS": "-",
        # Its threads wait a moment before they sleep: a start takes half as long (5 s instead of 10 on two cores).
        "RABBITMQ_SCHEDULER_BUSY_WAIT_THRESHOLD": "short",
        "ERL_EPMD_PORT": str(ports["epmd"]),
        "ERL_EPMD_ADDRESS": LOOPBACK,
        **{name: str(folder / file) for name, file in files.items()},
    }
