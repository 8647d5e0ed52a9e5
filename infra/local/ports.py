"""Loopback ports: chosen once, remembered in the home, used again while they are free."""

import json
import random
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import psutil

from infra.local.errors import StackError
from infra.local.home import Home, write

LOOPBACK = "127.0.0.1"
LOWEST = 15_000
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def choose(
    home: Home, names: Iterable[str], held: Iterable[str] = (), asked: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Ports by name, written to the home.

    Args:
        home: where they are remembered.
        names: what needs a port.
        held: names that listen on their remembered port at the moment.
        asked: ports that must be these and no others.

    Raises:
        StackError: when a port that was asked for is in use.
    """
    known = remembered(home)
    for name, port in (asked or {}).items():
        if not is_free(port) and not (name in held and known.get(name) == port):
            raise StackError(f"port {port} is in use{_holder(port)}; free it or choose another")
    ports = assign(names, {**known, **(asked or {})}, held, is_free, _draw)
    write(home.ports_json, json.dumps({**known, **ports}, indent=2) + "\n")
    return ports


def assign(
    names: Iterable[str],
    known: Mapping[str, int],
    held: Iterable[str],
    free: Callable[[int], bool],
    draw: Callable[[], int],
) -> dict[str, int]:
    """A different port for each name: the known one where it is held or free, else a drawn one that is free."""
    names, held = list(names), set(held)
    ports: dict[str, int] = {}
    for name in names:
        port = known.get(name)
        if port is not None and port not in ports.values() and (name in held or free(port)):
            ports[name] = port
    for name in names:
        if name not in ports:
            taken = {*ports.values(), *known.values()}
            ports[name] = next(port for port in iter(draw, None) if port not in taken and free(port))
    return {name: ports[name] for name in names}


def remembered(home: Home) -> dict[str, int]:
    """The ports of earlier starts; none where the file is missing or unreadable."""
    try:
        return {str(name): int(port) for name, port in json.loads(home.ports_json.read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        # Servers set it too: a port whose last connections linger in TIME_WAIT is free for them.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def _draw() -> int:
    # Below the kernel's range for outgoing connections: a client that knocks at a dead server's port inside that
    # range may be given the same port as its own, connect to itself and keep the server from coming back.
    return random.randrange(LOWEST, _first_ephemeral())


def _first_ephemeral() -> int:
    try:
        first = int(EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        first = 32_768
    return first if first > LOWEST + 1_000 else 32_768


def _holder(port: int) -> str:
    try:
        pids = {
            one.pid
            for one in psutil.net_connections("tcp")
            if one.status == psutil.CONN_LISTEN and one.laddr[1:2] == (port,)
        }
        names = {f"{psutil.Process(pid).name()}, pid {pid}" for pid in pids if pid}
    except psutil.Error:
        return ""
    return f" (by {' and '.join(sorted(names))})" if names else ""
