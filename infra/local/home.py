"""The folder a stack lives in: its paths, its lock, its secret."""

import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.local.errors import StackError

# sockaddr_un holds 104 bytes on macOS (108 on Linux); supervisord first binds to "<path>.<pid>", so room is left.
LONGEST_SOCKET = 90


@dataclass(frozen=True)
class Home:
    """Where everything of one stack is kept; ``root`` is absolute and has no symbolic links."""

    root: Path

    @classmethod
    def at(cls, path: Path) -> "Home":
        """The home at a path, which need not exist yet."""
        return cls(path.expanduser().resolve())

    @property
    def log(self) -> Path:
        """Folder of the logs, one file per program."""
        return self.root / "log"

    @property
    def run(self) -> Path:
        """Folder of what only a running stack needs: configuration, socket, locks."""
        return self.root / "run"

    @property
    def rabbitmq(self) -> Path:
        """Folder of the broker's data, configuration and cookie."""
        return self.root / "rabbitmq"

    @property
    def postgres(self) -> Path:
        """Folder that holds the database cluster."""
        return self.root / "postgres"

    @property
    def stack_json(self) -> Path:
        """The description of the running stack that scripts read."""
        return self.root / "stack.json"

    @property
    def ports_json(self) -> Path:
        """The ports chosen for this home, kept over restarts."""
        return self.root / "ports.json"

    @property
    def stack_log(self) -> Path:
        """What happened to the stack's processes, a line each."""
        return self.log / "stack.log"

    @property
    def supervisor_conf(self) -> Path:
        """The supervisor's configuration, written anew by each ``up``."""
        return self.run / "supervisord.conf"

    def log_of(self, program: str) -> Path:
        """The log of one program."""
        return self.log / f"{program}.log"

    def make(self) -> None:
        """Create the folders, readable by their owner alone.

        Raises:
            StackError: when the folder can't be made or written.
        """
        try:
            for folder in (self.root, self.log, self.run):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StackError(f"can't use {self.root} as the stack's home: {error.strerror}; choose another") from error

    @property
    def socket(self) -> Path:
        """The supervisor's socket."""
        folder = self._socket_link.readlink() if self._socket_link.is_symlink() else self.run
        return folder / "supervisor.sock"

    @property
    def _socket_link(self) -> Path:
        return self.run / "socket"

    def make_socket_folder(self) -> None:
        """Where the home's path is too long for a socket, make it a temporary folder, remembered by a link."""
        link = self._socket_link
        if len(os.fsencode(self.run / "supervisor.sock")) <= LONGEST_SOCKET or _is_own_folder(link):
            return
        link.unlink(missing_ok=True)
        link.symlink_to(tempfile.mkdtemp(prefix="forebay-", dir=_short_temporary_folder()))

    def forget_socket(self) -> None:
        """Remove the socket, with its temporary folder if it has one."""
        self.socket.unlink(missing_ok=True)
        if _is_own_folder(self._socket_link):
            shutil.rmtree(self._socket_link.readlink(), ignore_errors=True)
        self._socket_link.unlink(missing_ok=True)

    def secret(self) -> str:
        """The key that signs request ids: made once, then the same for as long as the home exists."""
        path = self.root / "id_secret"
        if not path.exists():
            write(path, secrets.token_urlsafe(32))
        return path.read_text().strip()


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file's content at once: a reader sees the old text or the new, never a part."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    draft = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        draft.chmod(mode)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


@contextmanager
def exclusive(home: Home, command: str) -> Iterator[None]:
    """Keep other ``up`` and ``down`` away from this home; a killed process holds no lock.

    Raises:
        StackError: when another one is at work.
    """
    with (home.run / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            other = file.read().strip() or "another command"
            raise StackError(f"{other} is at work on {home.root}; try again when it is done") from None
        file.truncate(0)
        file.write(f"forebay {command} (pid {os.getpid()})")
        file.flush()
        yield


def _short_temporary_folder() -> str:
    # macOS gives each user a temporary folder whose own path takes 49 bytes, a test runner may give a longer one.
    usual = tempfile.gettempdir()
    return usual if len(usual) <= LONGEST_SOCKET - len("/forebay-12345678/supervisor.sock") else "/tmp"  # noqa: S108 - mkdtemp makes a private folder in it


def _is_own_folder(link: Path) -> bool:
    # After a reboot the temporary folder's name may be anyone's.
    return link.is_symlink() and link.is_dir() and link.stat().st_uid == os.geteuid()
