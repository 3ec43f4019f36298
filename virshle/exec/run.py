"""Short commands, run to their end."""

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
"""Debian's package of a program, for the hint when it is missing."""

_BRIEF = 50
"""Milliseconds."""


@dataclass(frozen=True)
class Command:
    """A host command. `env`: added to the kept part of the caller's environment. `ok`: exit codes that are no
    failure. `detached`: it leaves something running behind, which must hold no lock of ours; a Ctrl-C waits for its
    end, which is near."""

    argv: tuple[str, ...]
    timeout: float = 60.0
    """Seconds; the whole process group is killed after them."""
    env: Mapping[str, str] = field(default_factory=dict)
    ok: tuple[int, ...] = (0,)
    detached: bool = False
    cwd: Path | None = None
    """Where it is run, if that matters to it."""

    def shell(self) -> str:
        """The same, ready to paste into a shell."""
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
    """Its path, also in the sbin folders, which an ordinary user's PATH lacks on Debian."""
    # Costs more to import than a short command takes.
    import shutil

    return shutil.which(name, path=_path())


def _path() -> str:
    path = os.environ.get("PATH", os.defpath)
    return ":".join([path, *(p for p in ("/usr/local/sbin", "/usr/sbin", "/sbin") if p not in path.split(":"))])


def environment(command: Command) -> dict[str, str]:
    """What a command is given: a short part of the caller's environment, C locale, and its own additions."""
    # LC_ALL=C.UTF-8 is the same, but a dozen files more to open, a sixth of the time that an `ln` takes.
    kept = {name: os.environ[name] for name in os.environ if _is_kept(name)}
    return kept | {"PATH": _path(), "LC_CTYPE": "C.UTF-8"} | dict(command.env)


@functools.cache
def _is_kept(name: str) -> bool:
    return name in _KEPT or name.lower().startswith(tuple(prefix.lower() for prefix in _KEPT_PREFIXES))


class Started:
    """A command that runs. Who started it calls `end`, or `kill` where its end is not wanted any more."""

    def __init__(self, command: Command, process: subprocess.Popen[str]) -> None:
        self.command = command
        self._process = process
        self._began = time.monotonic()

    def end(self, *, check: bool = True) -> Result:
        """Waits for it, and raises as `run` does."""
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
    """Runs it to its end.

    Raises HostError when it fails (unless `check` is false), TimedOutError when it takes too long,
    ConfigError when there is no such program.
    """
    return start(command, locks=locks).end(check=check)


def start(command: Command, *, locks: Iterable[int] = ()) -> Started:
    """Raises HostError where it cannot be started, ConfigError when there is no such program."""
    log.command(command.shell())
    try:
        return Started(command, _open(command, () if command.detached else tuple(locks)))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and (command.cwd is None or command.cwd.is_dir()):
            raise missing(command.argv[0]) from None
        message = f"`{command.argv[0]}` cannot be run: {error.strerror}"
        raise HostError(message, details=[f"command: {command.shell()}"]) from error


def _open(command: Command, locks: tuple[int, ...]) -> subprocess.Popen[str]:
    # Lists run nothing.
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
    """Until the process ends or may want its output to be read. `communicate` alone looks for the end at intervals of
    half a millisecond and more, as long as many a command takes."""
    # What fails here (an old kernel) costs no more than that.
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
    """`because`: what it is needed for, ending in ": "."""
    package = PACKAGES.get(program)
    how = f"install it (Debian: apt-get install {package})" if package else "install it, or add it to PATH"
    return ConfigError(f"{because}{program} is not on this machine", hint=f"{how}; `v doctor` checks everything")


def failure(result: Result, *, said: Sequence[str] | None = None, hint: str = "") -> HostError:
    """The command, its exit code and what it said, once. `said`: by whoever read that along the way."""
    code = result.code
    how = f"was killed by {signal_name(-code)}" if code < 0 else f"failed with exit code {code}"
    if said is None:
        last = (result.stderr.strip() or result.stdout.strip()).splitlines()[-12:]
        said = [f"  {log.printable(line)}" for line in last]
    details = [f"command: {result.command.shell()}", *said]
    return HostError(f"`{result.command.argv[0]}` {how}", details=details, hint=hint)


def signal_name(number: int) -> str:
    # Real-time signals have numbers only.
    return {one.value: one.name for one in Signals}.get(number, f"signal {number}")


def spawn_ok(command: Command) -> bool:
    """Whether the program is there and ends well: for questions, not for work."""
    try:
        return run(command, check=False).code in command.ok
    except (ConfigError, TimedOutError):
        return False


def exec_into(argv: tuple[str, ...]) -> NoReturn:
    """Becomes the command, as the shell's `exec` does: its terminal and its exit code are ours."""
    log.command(shlex.join(argv))
    program = find_program(argv[0])
    if program is None:
        raise missing(argv[0])
    os.execv(program, argv)
