"""Files and folders: atomic writes, locks, and the caller's home."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import re
import resource
import select
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote

from virshle.errors import ConfigError, ConflictError, HostError, VirshleError

_OTHER_DESCRIPTORS = 128
"""Descriptors for everything except locks: commands that run at the same time have pipes."""


def write_atomic(path: Path, text: str, mode: int = 0o600, *, lasting: bool = True) -> None:
    """Writes a new file beside `path`, then renames it to `path`. A reader sees the old text or the new one. If
    `lasting`, this is true even after a power cut."""
    # This import takes more time than a short command.
    import tempfile

    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if lasting:
                os.fsync(file.fileno())
        Path(temporary).rename(path)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
    if lasting:
        sync_folder(path.parent)


def torn(folder: Path, names: Sequence[str]) -> list[Path]:
    """Temporary files of `write_atomic` for files with those names. Their write was interrupted, or goes on now."""
    # The pattern of tempfile's names.
    part = re.compile(rf"\.(?:{'|'.join(map(re.escape, names))})\.[a-z0-9_]{{8}}")
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError), os.scandir(folder) as found:
        return sorted(
            folder / one.name for one in found if part.fullmatch(one.name) and one.is_file(follow_symlinks=False)
        )
    return []


START = 2**16
"""Bytes to read from a file that another user or a guest writes. Everything that matters is in them."""


def read_start(path: Path, most: int = START) -> str:
    """The first `most` bytes of a file in a folder that others can write to. They may make the file very large, or put
    a link or a FIFO in its place: a link is not followed, and a FIFO is not waited for. Raises OSError."""
    return _read(path, most, lambda _: 0)


def read_end(path: Path, most: int = 2**16) -> str:
    """The last `most` bytes of such a file. Raises OSError."""
    return _read(path, most, lambda size: max(size - most, 0))


def no_link(path: str, flags: int) -> int:
    """An opener for `open`, for a file in such a folder."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _read(path: Path, most: int, start: Callable[[int], int]) -> str:
    handle = no_link(str(path), os.O_RDONLY)
    try:
        return os.pread(handle, most, start(os.fstat(handle).st_size)).decode(errors="replace")
    finally:
        os.close(handle)


def read_given(path: Path, *, most: int = 2**20, patience: float = 10.0) -> bytes:
    """The content of a file that the user named. It may be a link or a pipe, for example `<(...)`. Each read waits at
    most `patience` seconds, and at most `most` bytes are read. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if odd := _odd(handle):
            raise OSError(errno.EINVAL, f"it is {odd}, not a file", str(path))
        readable = select.poll()
        readable.register(handle, select.POLLIN)
        text = b""
        while len(text) <= most:
            # Without this wait, a FIFO without a writer would look like an empty file.
            if not readable.poll(patience * 1000):
                raise TimeoutError(errno.ETIMEDOUT, "no process writes to it", str(path))
            if not (block := os.read(handle, 2**16)):
                return text
            text += block
    finally:
        os.close(handle)
    raise OSError(errno.EFBIG, f"it has more than {most} bytes", str(path))


def _odd(handle: int) -> str:
    """The kind of the open file, if its text may never come or never end. Empty for all other files.

    The pipe of `<(...)` is allowed: it has no name in a folder, and a process already writes to it. /dev/null is
    allowed as an empty file."""
    status = os.fstat(handle)
    if stat.S_ISFIFO(status.st_mode):
        # proc(5), /proc/pid/fd: the link of a pipe without a name is `pipe:[inode]`.
        return "" if str(Path(f"/proc/self/fd/{handle}").readlink()).startswith("pipe:") else "a FIFO"
    if stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode):
        return "" if status.st_rdev == Path(os.devnull).stat().st_rdev else "a device"
    return ""


def sync_folder(folder: Path) -> None:
    """Writes the names in `folder` to the disk, so that renames and new files survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Lock:
    """An flock on a folder. Short commands may inherit `fd`: if virshle is interrupted, a command that still runs (for
    example a `cp`) still holds the lock. A VMM never inherits it."""

    def __init__(
        self, folder: Path, *, shared: bool = False, patience: float = 10.0, told: Callable[[Path], None] | None = None
    ) -> None:
        """Raises FileNotFoundError if there is no such folder, ConflictError after `patience` seconds. `told` is
        called once if the wait takes longer than one second."""
        self._told = told
        self.folder = folder
        self.fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._take(fcntl.LOCK_SH if shared else fcntl.LOCK_EX, patience)
        except BaseException:
            os.close(self.fd)
            raise

    def _take(self, kind: int, patience: float) -> None:
        began = time.monotonic()
        while True:
            try:
                return fcntl.flock(self.fd, kind | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise
                waited = time.monotonic() - began
                if waited >= 1 and self._told is not None:
                    self._told(self.folder)
                    self._told = None
                if waited >= patience:
                    raise ConflictError(
                        f"{self.folder} is locked: another virshle, or a command that it started, works on it",
                        hint=f"wait until it ends; `fuser -v {quote(str(self.folder))}` shows the process",
                    ) from None
            time.sleep(0.02)

    def still(self, folder: Path) -> bool:
        """True if the locked folder is the folder that has the path `folder` now."""
        try:
            return os.path.samestat(os.fstat(self.fd), folder.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def try_lock(folder: Path) -> Lock | None:
    """The lock, without waiting. None if another process holds it, if we may not take it, or if the folder is gone."""
    try:
        return Lock(folder, patience=0)
    except (ConflictError, FileNotFoundError, NotADirectoryError, PermissionError):
        return None


def held(folder: Path) -> bool:
    """True if a process holds the exclusive lock of the folder. False if the folder is gone. The check takes a shared
    lock for a moment; a process that wants the lock at that time waits only for that moment."""
    try:
        Lock(folder, shared=True, patience=0).release()
    except ConflictError:
        return True
    except (FileNotFoundError, NotADirectoryError):
        pass
    return False


def allow_locks(count: int) -> None:
    """Raises the limit of open files, so that this process can hold `count` locks and still start commands. It cannot
    go above the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _OTHER_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def caller_home() -> Path:
    """The home of the user who typed the command: under sudo, the caller's home, not root's. Raises ConfigError."""
    caller = os.environ.get("SUDO_USER")
    if os.geteuid() == 0 and caller:
        with suppress(KeyError):
            return Path(pwd.getpwnam(caller).pw_dir)
    # An empty or relative HOME would mean another folder in each current folder.
    if (home := os.environ.get("HOME", "")).startswith("/"):
        return Path(home)
    with suppress(KeyError):
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    raise ConfigError(
        f"your home folder is not known: HOME is not set, and the user {os.getuid()} is not in /etc/passwd",
        hint="export HOME=/A/FOLDER/OF/YOURS",
    )


def check_known() -> None:
    """Raises ConfigError if the system has no name for the calling user. Nix and ssh would fail (nix: "cannot figure
    out user name"; openssh, ssh.c and ssh-keygen.c: "No user exists for uid")."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        raise ConfigError(
            f"the user with the number {os.getuid()} has no entry in /etc/passwd, and Nix and ssh need one",
            hint=f"create the user (as root: useradd --uid {os.getuid()} NAME), or run virshle as another user",
        ) from None


def check_folder(folder: Path, mend: str) -> None:
    """Raises ConfigError if the folder cannot exist, because a file or a link has its name, or the name of a folder
    above it. `mend`: how to choose another folder."""
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not there.is_dir():
        what = "a link that does not lead to a folder" if there.is_symlink() else "not a folder"
        raise ConfigError(
            f"{folder} cannot be used: {there} is {what}", hint=f"move it away, or choose another folder: {mend}"
        )


def expand(path: str | Path, relative_to: Path | None = None) -> Path:
    """The path with `~` replaced by the caller's home. It is absolute, but links are not resolved.

    Raises ConfigError for `~NAME` if there is no such user."""
    first, *rest = Path(path).parts or (".",)
    if first == "~":
        return caller_home().joinpath(*rest)
    try:
        own = Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(f"{path}: there is no user {first[1:]!r}", hint="write the path in full") from None
    return relative_to / own if relative_to else full(own)


def full(path: Path) -> Path:
    """The absolute path; links are not resolved. Raises ConfigError for a relative path if the current folder was
    removed."""
    try:
        return path if path.is_absolute() else Path.cwd() / path
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: the current folder was removed, so a relative path does not work",
            hint="cd to another folder, or write the path in full",
        ) from None


@contextmanager
def explained(doing: str, *, hint: str = "") -> Iterator[None]:
    """Turns an OSError into an error that says what virshle was `doing`, and what the user can do."""
    try:
        yield
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        raise explain(error, f"cannot {doing}:{where} {error.strerror or error}", hint) from error


def explain(error: OSError, message: str, hint: str = "") -> VirshleError:
    if not hint and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = "check who owns it (`ls -ld`), or choose other folders with VIRSHLE_STATE_DIR and VIRSHLE_RUN_DIR"
    if not hint and error.errno == errno.ENOSPC:
        hint = "free some space (`df -h`), then run the command again"
    return HostError(message, hint=hint)
