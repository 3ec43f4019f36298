"""Runs short commands to their end."""

from __future__ import annotations

import functools
import os
import select
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, Signals
from typing import TYPE_CHECKING, NoReturn

from virshle import log
from virshle.errors import ConfigError, HostError, TimedOutError

if TYPE_CHECKING:
    import subprocess

_KEPT = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TERM",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "XDG_RUNTIME_DIR",
    "SSL_CERT_FILE",
)
_KEPT_PREFIXES = ("NIX_", "http_", "https_", "no_proxy", "APT_", "XDG_")

PACKAGES = {
    "apt-get": "apt",
    "cp": "coreutils",
    "find": "findutils",
    "flock": "util-linux",
    "mcopy": "mtools",
    "mkfs.vfat": "dosfstools",
    "nix": "nix-bin",
    "passt": "passt",
    "qemu-img": "qemu-utils",
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-system-x86_64": "qemu-system-x86",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "setpriv": "util-linux",
    "setsid": "util-linux",
    "socat": "socat",
    "stat": "coreutils",
    "systemd-run": "systemd",
    "truncate": "coreutils",
    "useradd": "passwd",
}
"""Debian's package of each program, for the hint if the program is missing."""

_BRIEF = 50
"""Milliseconds."""


@dataclass(frozen=True)
class Command:
    """A host command. `env`: added to the kept part of the caller's environment. `ok`: exit codes that are no failure.
    `detached`: the command leaves a process running, which must not hold our locks. Ctrl-C waits for the end of such a
    command, which takes only a short time."""

    argv: tuple[str, ...]
    timeout: float = 60.0
    """Seconds. After that, the whole process group is killed."""
    env: Mapping[str, str] = field(default_factory=dict)
    ok: tuple[int, ...] = (0,)
    detached: bool = False
    cwd: Path | None = None
    """The folder in which it runs, if that matters."""

    def shell(self) -> str:
        """The command, ready to paste into a shell."""
        words = ["env", "-C", shlex.quote(str(self.cwd))] if self.cwd else []
        words += [f"{name}={shlex.quote(value)}" for name, value in self.env.items()]
        return " ".join([*words, shlex.join(self.argv)])


@dataclass(frozen=True)
class Result:
    command: Command
    code: int
    stdout: str
    stderr: str
    seconds: float


def text_of(words: Iterable[str | Path]) -> tuple[str, ...]:
    return tuple(str(word) for word in words)


def find_program(name: str) -> str | None:
    """The path of the program. It also searches the sbin folders, which are not in an ordinary user's PATH on
    Debian."""
    # This import takes more time than a short command.
    import shutil

    return shutil.which(name, path=_path())


def _path() -> str:
    path = os.environ.get("PATH", os.defpath)
    return ":".join([path, *(p for p in ("/usr/local/sbin", "/usr/sbin", "/sbin") if p not in path.split(":"))])


def environment(command: Command) -> dict[str, str]:
    """The environment of a command: a small part of the caller's environment, the C locale, and its own additions."""
    # LC_ALL=C.UTF-8 has the same effect, but a program opens a dozen more files with it: a sixth of the time of an
    # `ln`.
    kept = {name: os.environ[name] for name in os.environ if _is_kept(name)}
    return kept | {"PATH": _path(), "LC_CTYPE": "C.UTF-8"} | dict(command.env)


@functools.cache
def _is_kept(name: str) -> bool:
    return name in _KEPT or name.lower().startswith(tuple(prefix.lower() for prefix in _KEPT_PREFIXES))


class Started:
    """A command that runs. The caller must call `end`, or `kill` if the command must not go on."""

    def __init__(self, command: Command, process: subprocess.Popen[str]) -> None:
        self.command = command
        self._process = process
        self._began = time.monotonic()

    def end(self, *, check: bool = True) -> Result:
        """Waits for the end of the command. Raises the same errors as `run`."""
        import subprocess

        command, process = self.command, self._process
        try:
            _wait_briefly(process.pid)
            stdout, stderr = process.communicate(timeout=command.timeout)
        except subprocess.TimeoutExpired:
            _kill(process)
            raise TimedOutError(
                f"`{command.argv[0]}` did not end within {command.timeout:g} s and was killed",
                details=[f"command: {command.shell()}"],
            ) from None
        except BaseException:
            self.kill()
            raise
        result = Result(command, process.returncode, stdout or "", stderr or "", time.monotonic() - self._began)
        log.output(result.stdout + result.stderr)
        if check and result.code not in command.ok:
            raise failure(result)
        return result

    def kill(self) -> None:
        if self.command.detached:
            self._process.wait()
        _kill(self._process)


def run(command: Command, *, locks: Iterable[int] = (), check: bool = True) -> Result:
    """Runs the command to its end.

    Raises HostError if it fails (unless `check` is false), TimedOutError if it takes too long,
    ConfigError if there is no such program.
    """
    return start(command, locks=locks).end(check=check)


def start(command: Command, *, locks: Iterable[int] = ()) -> Started:
    """Raises HostError if the command cannot be started, ConfigError if there is no such program."""
    log.command(command.shell())
    try:
        return Started(command, _open(command, () if command.detached else tuple(locks)))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and (command.cwd is None or command.cwd.is_dir()):
            raise missing(command.argv[0]) from None
        message = f"`{command.argv[0]}` cannot be run: {error.strerror}"
        raise HostError(message, details=[f"command: {command.shell()}"]) from error


def _open(command: Command, locks: tuple[int, ...]) -> subprocess.Popen[str]:
    # Commands such as `v ls` start no process and do not need this import.
    import subprocess

    return subprocess.Popen(
        command.argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(command),
        cwd=command.cwd,
        text=True,
        errors="replace",
        pass_fds=locks,
        start_new_session=True,
    )


def _wait_briefly(pid: int) -> None:
    """Waits for a short time until the process ends. After that, somebody must read its output. `communicate` alone
    checks for the end at intervals of half a millisecond and more. Many commands take only that long."""
    # If this fails (on an old kernel), only that time is lost.
    with suppress(OSError):
        handle = os.pidfd_open(pid)
        try:
            ended = select.poll()
            ended.register(handle, select.POLLIN)
            ended.poll(_BRIEF)
        finally:
            os.close(handle)


def _kill(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, SIGKILL)
    process.wait()


def missing(program: str, because: str = "") -> ConfigError:
    """`because`: why the program is needed. It ends with ": "."""
    package = PACKAGES.get(program)
    how = f"install it (Debian: apt-get install {package})" if package else "install it, or add it to PATH"
    return ConfigError(f"{because}{program} is not on this machine", hint=f"{how}; `v doctor` checks everything")


def failure(result: Result, *, said: Sequence[str] | None = None, hint: str = "") -> HostError:
    """The error for a command that failed: the command, its exit code and its last lines. `said`: these lines, if the
    output was read while the command ran."""
    code = result.code
    how = f"was killed by {signal_name(-code)}" if code < 0 else f"failed with exit code {code}"
    if said is None:
        last = (result.stderr.strip() or result.stdout.strip()).splitlines()[-12:]
        said = [f"  {log.printable(line)}" for line in last]
    details = [f"command: {result.command.shell()}", *said]
    return HostError(f"`{result.command.argv[0]}` {how}", details=details, hint=hint)


def signal_name(number: int) -> str:
    # Real-time signals have only numbers.
    return {one.value: one.name for one in Signals}.get(number, f"signal {number}")


def spawn_ok(command: Command) -> bool:
    """True if the program exists and succeeds. This is for checks, not for changes."""
    try:
        return run(command, check=False).code in command.ok
    except (ConfigError, TimedOutError):
        return False


def exec_into(argv: tuple[str, ...]) -> NoReturn:
    """Replaces our process with the command, like the shell's `exec`. The command gets our terminal, and its exit code
    is ours."""
    log.command(shlex.join(argv))
    program = find_program(argv[0])
    if program is None:
        raise missing(argv[0])
    os.execv(program, argv)
