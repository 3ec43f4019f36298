"""Files and folders: atomic writes, locks that hold, and the caller's home."""

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
"""For all that is not a lock: the commands that run at once have pipes."""


def write_atomic(path: Path, text: str, mode: int = 0o600, *, lasting: bool = True) -> None:
    """Writes beside `path`, then renames: a reader sees the old text or the new one, also after a power cut where it is
    `lasting`."""
    # Costs more to import than a short command takes.
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
    """What `write_atomic`, of files of those names, was interrupted at; or is writing in this moment."""
    # As tempfile makes names.
    part = re.compile(rf"\.(?:{'|'.join(map(re.escape, names))})\.[a-z0-9_]{{8}}")
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError), os.scandir(folder) as found:
        return sorted(
            folder / one.name for one in found if part.fullmatch(one.name) and one.is_file(follow_symlinks=False)
        )
    return []


START = 2**16
"""Bytes of what somebody else writes that are enough to know what it says."""


def read_start(path: Path, most: int = START) -> str:
    """The first `most` bytes of a file in a folder that is not ours alone, which somebody else may make as large as he
    likes: no link is followed, no FIFO waited for. Raises OSError."""
    return _read(path, most, lambda _: 0)


def read_end(path: Path, most: int = 2**16) -> str:
    """The last `most` bytes of one. Raises OSError."""
    return _read(path, most, lambda size: max(size - most, 0))


def no_link(path: str, flags: int) -> int:
    """An opener, for `open`, of a file in such a folder."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _read(path: Path, most: int, start: Callable[[int], int]) -> str:
    handle = no_link(str(path), os.O_RDONLY)
    try:
        return os.pread(handle, most, start(os.fstat(handle).st_size)).decode(errors="replace")
    finally:
        os.close(handle)


def read_given(path: Path, *, most: int = 2**20, patience: float = 10.0) -> bytes:
    """A file that somebody named, who may mean a link or a pipe, `<(...)` say. Whatever it is, it is waited for no
    longer than `patience` seconds at a time, and no more than `most` bytes are read. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if odd := _odd(handle):
            raise OSError(errno.EINVAL, f"it is {odd}, and no file", str(path))
        readable = select.poll()
        readable.register(handle, select.POLLIN)
        text = b""
        while len(text) <= most:
            # A FIFO that nobody writes to would be taken for an empty file.
            if not readable.poll(patience * 1000):
                raise TimeoutError(errno.ETIMEDOUT, "nobody writes to it", str(path))
            if not (block := os.read(handle, 2**16)):
                return text
            text += block
    finally:
        os.close(handle)
    raise OSError(errno.EFBIG, f"it has more than {most} bytes", str(path))


def _odd(handle: int) -> str:
    """What is open, where it is something whose text may never come or never end; empty for all else. The pipe of
    `<(...)` is no name in a folder, and the process at its other end has begun. /dev/null is an empty file."""
    status = os.fstat(handle)
    if stat.S_ISFIFO(status.st_mode):
        # proc(5), /proc/pid/fd: the link of a pipe without a name is `pipe:[inode]`.
        return "" if str(Path(f"/proc/self/fd/{handle}").readlink()).startswith("pipe:") else "a FIFO"
    if stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode):
        return "" if status.st_rdev == Path(os.devnull).stat().st_rdev else "a device"
    return ""


def sync_folder(folder: Path) -> None:
    """Makes renames and new names in `folder` last through a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Lock:
    """An flock held on a folder. `fd` may be handed to short commands, so that the work an interrupted
    virshle leaves behind (an orphaned `cp`) still holds it; a VMM never gets it."""

    def __init__(
        self, folder: Path, *, shared: bool = False, patience: float = 10.0, told: Callable[[Path], None] | None = None
    ) -> None:
        """Raises FileNotFoundError where there is no such folder, ConflictError after `patience` seconds. `told` is
        called once when it takes longer than one."""
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
                        f"{self.folder} is locked: another virshle, or a command it left behind, works on it",
                        hint=f"wait for it; `fuser -v {quote(str(self.folder))}` names it",
                    ) from None
            time.sleep(0.02)

    def still(self, folder: Path) -> bool:
        """Whether what is locked is what is at `folder` now."""
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
    """The lock at once, or None where it is taken, is not ours to take, or the folder is gone."""
    try:
        return Lock(folder, patience=0)
    except (ConflictError, FileNotFoundError, NotADirectoryError, PermissionError):
        return None


def held(folder: Path) -> bool:
    """Whether somebody holds the lock of a folder for himself; not so of one that is gone. Whoever wants the lock in
    just that moment is kept from it no longer than the look takes."""
    try:
        Lock(folder, shared=True, patience=0).release()
    except ConflictError:
        return True
    except (FileNotFoundError, NotADirectoryError):
        pass
    return False


def allow_locks(count: int) -> None:
    """So that this process may hold as many locks, and still start commands; as far as the hard limit goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _OTHER_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def caller_home() -> Path:
    """The home of who typed the command: under sudo, the caller's, not root's. Raises ConfigError."""
    caller = os.environ.get("SUDO_USER")
    if os.geteuid() == 0 and caller:
        with suppress(KeyError):
            return Path(pwd.getpwnam(caller).pw_dir)
    # Empty or relative, it would be another folder for each folder that one is in.
    if (home := os.environ.get("HOME", "")).startswith("/"):
        return Path(home)
    with suppress(KeyError):
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    raise ConfigError(
        f"it is not known where your home is: HOME is not set, and the user {os.getuid()} is not in /etc/passwd",
        hint="export HOME=/A/FOLDER/OF/YOURS",
    )


def check_known() -> None:
    """Raises ConfigError where Nix and ssh would refuse who calls, as the system has no name for that user (nix:
    "cannot figure out user name"; openssh, ssh.c and ssh-keygen.c: "No user exists for uid")."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        raise ConfigError(
            f"the user with the number {os.getuid()} has no entry in /etc/passwd, which Nix and ssh need",
            hint=f"make one (as root: useradd --uid {os.getuid()} NAME), or run virshle as another user",
        ) from None


def check_folder(folder: Path, mend: str) -> None:
    """Raises ConfigError where it is not there and cannot be made, as what has its name, or the name of a folder above
    it, is no folder. `mend`: how to choose another."""
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not there.is_dir():
        what = "a link that leads to no folder" if there.is_symlink() else "no folder"
        raise ConfigError(
            f"{folder} cannot be used: {there} is {what}", hint=f"move it away, or choose another folder: {mend}"
        )


def expand(path: str | Path, relative_to: Path | None = None) -> Path:
    """`~` is the caller's home; the result is absolute but not resolved. Raises ConfigError for a home of nobody."""
    first, *rest = Path(path).parts or (".",)
    if first == "~":
        return caller_home().joinpath(*rest)
    try:
        own = Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(f"{path}: there is no user {first[1:]!r}", hint="write the path in full") from None
    return relative_to / own if relative_to else full(own)


def full(path: Path) -> Path:
    """Absolute, not resolved. Raises ConfigError for a relative one where the current folder was removed meanwhile."""
    try:
        return path if path.is_absolute() else Path.cwd() / path
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: the current folder was removed, and no path is relative to it",
            hint="cd to another folder, or write the path in full",
        ) from None


@contextmanager
def explained(doing: str, *, hint: str = "") -> Iterator[None]:
    """Turns an OSError met while `doing` something into an error a person can act on."""
    try:
        yield
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        raise explain(error, f"cannot {doing}:{where} {error.strerror or error}", hint) from error


def explain(error: OSError, message: str, hint: str = "") -> VirshleError:
    if not hint and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = "check who owns it (`ls -ld`), or choose another folder by VIRSHLE_STATE_DIR and VIRSHLE_RUN_DIR"
    if not hint and error.errno == errno.ENOSPC:
        hint = "free some space (`df -h`), then run the command again"
    return HostError(message, hint=hint)
