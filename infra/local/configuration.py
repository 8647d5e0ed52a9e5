"""The supervisor's configuration file. It holds no secret: those pass through the environment.

supervisord runs in the stack's home, so paths here are relative to it and need no quoting.
"""

import shlex
import sys
from collections.abc import Iterable, Sequence

from infra.local.program import Program

WATCH = "watch"
START_RETRIES = 10
LOG_BYTES = 10_000_000
LOG_BACKUPS = 2
OPEN_FILES = 16_384

DAEMON = """\
[supervisord]
logfile=log/supervisord.log
logfile_maxbytes=1MB
logfile_backups=1
pidfile=run/supervisord.pid
childlogdir=log
umask=077
minfds={open_files}

[unix_http_server]
file={socket}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[eventlistener:{watch}]
command={watch_command}
events=PROCESS_STATE
autorestart=true
startretries={retries}
stdout_logfile=NONE
stderr_logfile=log/{watch}.log
stderr_logfile_maxbytes=1MB
stderr_logfile_backups=1
"""

PROGRAM = """
[program:{name}]
command={command}
autostart=false
autorestart=true
startsecs={settle_s}
startretries={retries}
stopsignal={stop_signal}
stopwaitsecs={stop_wait_s}
killasgroup=true
priority={priority}
redirect_stderr=true
stdout_logfile=log/{name}.log
stdout_logfile_maxbytes={log_bytes}
stdout_logfile_backups={log_backups}
"""


def render(programs: Iterable[Program], home: str, socket: str, hard_limit: int = OPEN_FILES) -> str:
    """The text of supervisord.conf.

    Args:
        programs: what to supervise; nothing starts by itself.
        home: the stack's home.
        socket: path of the control socket.
        hard_limit: open files a process may ask for at the most; -1 for no limit.
    """
    daemon = DAEMON.format(
        open_files=min(OPEN_FILES, hard_limit) if hard_limit >= 0 else OPEN_FILES,
        socket=escape(socket),
        watch=WATCH,
        watch_command=words([sys.executable, "-P", "-m", "infra.local.watch", home]),
        retries=START_RETRIES,
    )
    return daemon + "".join(_section(program, home) for program in programs)


def words(command: Sequence[str]) -> str:
    """A command line that supervisord splits back into exactly these words."""
    line = escape(shlex.join(command))
    # Its parser cuts a value at "; " or "# " comments also inside quotes; closing and opening the quotes in front
    # of the sign takes away the blank before it. (shlex quotes every word that holds one.)
    return line.replace(";", "'';").replace("#", "''#")


def escape(text: str) -> str:
    """Text without meaning for supervisord's own %-expansion."""
    return text.replace("%", "%%")


def _section(program: Program, home: str) -> str:
    return PROGRAM.format(
        name=program.name,
        command=words(program.full_command(home)),
        settle_s=program.settle_s,
        retries=START_RETRIES,
        stop_signal=program.stop_signal,
        stop_wait_s=program.stop_wait_s,
        priority=program.priority,
        log_bytes=LOG_BYTES,
        log_backups=LOG_BACKUPS,
    )
