"""Copies files and folders into a guest and out of it, by tar through ssh: the guest needs only tar.

As with `cp -r`, a copy to a folder that exists goes into that folder. What a guest sends is not trusted: it is unpacked
beside its place, checked, and only then put in its place.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from uuid import uuid4

from virshle import log
from virshle.errors import ConflictError, HostError, NotFoundError, UsageError
from virshle.fs import expand, explain, explained
from virshle.plan import Progress, Run, Step, run

_TIMEOUT = 6 * 3600.0
# GNU tar ends with 1 if a file changed while it was read, and with 2 for anything worse (tar's manual, "Synopsis").
# Other tars end with 1 for any failure.
_CHANGED = "{ [ $? = 1 ] && tar --version | grep -q 'GNU tar'; }"
_SEND = f'set -o pipefail; {{ tar -C "$1" -cf - "$2" || {_CHANGED}; }} | "${{@:3}}"'
# A tar archive without files: two blocks of zeros. Not every tar can make one.
_NOTHING = "head -c 1024 /dev/zero"
_FETCH = (
    'set -o pipefail; "${@:2}" | tar -x --no-same-owner --no-same-permissions -f - -C "$1"; code=$?; '
    # A folder without our r, w or x, like all folders in a Nix store, could not be checked or moved.
    'chmod -R u+rwX -- "$1" && exit $code'
)
_ODD = stat.S_ISUID | stat.S_ISGID


@dataclass(frozen=True)
class Carried:
    """A path on this host and one in the guest. In the guest a relative path starts in the home of the login user."""

    here: Path
    there: str


class DidNotComeError(HostError):
    """The file or folder does not exist in the guest."""


def sent(word: str) -> Carried:
    """Reads `--in SRC[:DST]`. If SRC is a link, its target is copied under the link's name. Raises UsageError,
    NotFoundError, HostError."""
    source, target = (word, "") if word and _mode(Path(word)) is not None else _split(word)
    here = expand(source)
    mode = _mode(here)
    if mode is None or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise NotFoundError(f"--in {word}: there is no file or folder {source}", hint="write --in SRC:DST")
    real = here.resolve()
    name = real.name if here.name in ("", "..") else here.name
    if not (target or name):
        raise UsageError(f"--in {word}: {source} has no name of its own", hint="write --in SRC:DST")
    return Carried(real, target or name)


def fetched(word: str) -> Carried:
    """Reads `--out SRC[:DST]`. Raises UsageError; ConflictError if a folder or a device would have to be replaced;
    HostError."""
    source, target = _split(word)
    name = posixpath.basename(posixpath.normpath(source))
    if name in ("", ".", "..", "/"):
        raise UsageError(f"--out {word}: {source!r} names nothing to fetch", hint="for example: --out result:./result")
    here = expand(target or ".")
    mode = _mode(here)
    if target.endswith("/") or (mode is not None and stat.S_ISDIR(mode)):
        here = here / name
        mode = _mode(here)
    if mode is not None and not stat.S_ISREG(mode):
        what = f"there is a folder {here} already" if stat.S_ISDIR(mode) else f"{here} is not a plain file"
        raise ConflictError(f"--out {word}: {what}", hint="remove it, or choose another DST")
    return Carried(here, posixpath.normpath(source))


def check_places(out: Sequence[Carried]) -> None:
    """Checks that each copy can be put in its place: makes a folder there and removes it. Raises ConflictError if two
    copies go to the same place, HostError."""
    places = [one.here for one in out]
    for one in out:
        if places.count(one.here) > 1:
            raise ConflictError(f"two --out go to {one.here}", hint="give each a DST of its own: --out SRC:DST")
        folder = one.here.parent
        while not os.path.lexists(folder):
            folder = folder.parent
        with explained(f"put {one.there} into {folder}", hint="choose another place: --out SRC:DST"):
            trial = folder / f".{one.here.name}.{uuid4().hex[:8]}"
            trial.mkdir()
            trial.rmdir()


def _mode(path: Path) -> int | None:
    """The mode of the file that a path leads to; None if there is no such file. Raises HostError."""
    try:
        return path.stat().st_mode
    except ValueError:  # a NUL
        return None
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise explain(error, f"cannot look at {path}: {error.strerror}", "choose another path") from error


def _split(word: str) -> tuple[str, str]:
    source, _, target = word.partition(":")
    if not source or "\0" in word:
        raise UsageError(f"{word!r} names nothing", hint="write SRC, or SRC:DST")
    return source, target


def send_step(ssh: Sequence[str], what: Carried) -> Step:
    """`ssh`: the ssh command, without the command for the guest."""
    there = quote(_in_guest(what))
    if what.here.is_dir():
        unpack = f"mkdir -p {there} && tar -x -o -f - -C {there}"
        words: tuple[str | Path, ...] = (what.here, ".")
    else:
        folder = quote(posixpath.dirname(_in_guest(what)))
        unpack = (
            f"mkdir -p {folder} && new=$(mktemp -d {folder}/.new.XXXXXX) && "
            'tar -x -o -f - -C "$new" && '
            f'mv -f "$new"/{quote(what.here.name)} {there}; code=$?; rm -rf "$new"; exit $code'
        )
        words = (what.here.parent, f"./{what.here.name}")
    return _copy(f"copy {what.here} in", _SEND, *words, *ssh, "--", unpack)


def _in_guest(what: Carried) -> str:
    """The path in the guest, in a form that no program takes for an option."""
    return what.there if what.there.startswith("/") else f"./{what.there}"


def pack(what: Carried) -> str:
    """The command in the guest that writes the file or folder to its output, as a tar archive."""
    folder, name = posixpath.split(what.there)
    return f"tar -cf - -C {quote(folder or '.')} ./{quote(name)}"


def fetch_steps(ssh: Sequence[str], what: Carried) -> tuple[Path, list[Step]]:
    """The steps, and the path where the copy will be: it must be checked before it is put in its place."""
    staged = what.here.parent / f".{what.here.name}.{uuid4().hex[:8]}"
    there = quote(_in_guest(what))
    send = f"if [ -e {there} ] || [ -L {there} ]; then {pack(what)} || {_CHANGED}; else {_NOTHING}; fi"
    remove = run("remove the copied files", "rm", "-rf", "--", staged)
    steps: list[Step] = [
        run("make a folder for the copy", "mkdir", "-p", "-m", "0700", staged, undo=[remove]),
        _copy(f"copy {what.there} out", _FETCH, staged, *ssh, "--", send),
    ]
    return staged / posixpath.basename(what.there), steps


def _copy(why: str, script: str, *words: str | Path) -> Run:
    return replace(run(why, "bash", "-c", script, "bash", *words, timeout=_TIMEOUT), follow=_Said)


class _Said:
    """Reads the output of both tars and of ssh. A file that changed while it was copied is only a warning."""

    _MEANWHILE = ("file changed as we read it", "removed before we read it", "file shrank by")

    def __init__(self, _progress: Progress, title: str) -> None:
        self._title = title
        self._last: deque[str] = deque(maxlen=12)

    def line(self, text: str) -> None:
        if any(words in text.lower() for words in self._MEANWHILE):
            log.warn(f"{self._title}: {text}")
        self._last.append(text)

    def failure(self) -> list[str]:
        return [f"  {log.printable(line)}" for line in self._last]

    def hint(self) -> str:
        return ""


def place_steps(came: Path, what: Carried) -> list[Step]:
    return [
        run("put the copy in its place", "mv", "-T", "--", came, what.here),
        run("remove the folder of the copy", "rm", "-rf", "--", came.parent),
    ]


def look_through(came: Path) -> None:
    """Raises HostError if the copy has anything but files, folders, and links among them. No link may lead out of the
    copy, wherever it will be put."""
    if not os.path.lexists(came):
        raise DidNotComeError(f"{came.name} does not exist in the guest")
    home = came.parent.resolve()
    top = home / came.name
    for path in _everything(top):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            if path == top or path.readlink().is_absolute() or not _leads(path).is_relative_to(top):
                raise HostError(
                    f"{path.relative_to(home)} is a link to {path.readlink()}, which is outside of the copied files",
                    hint="copy the target of the link, in the guest: cp -rL",
                )
        elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or mode & _ODD:
            raise HostError(f"{path.relative_to(home)} is not a plain file or folder", hint="leave it in the guest")


def _everything(came: Path) -> Iterator[Path]:
    yield came
    for folder, folders, files in os.walk(came, onerror=_refuse) if came.is_dir() else ():
        yield from (Path(folder) / name for name in (*folders, *files))


def _refuse(error: OSError) -> None:
    raise explain(error, f"cannot check what was copied out: {error.filename}: {error.strerror}") from error


def _leads(link: Path) -> Path:
    """Raises HostError for a link that leads to itself. `Path.resolve` raises only in some releases of Python."""
    try:
        link.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise HostError(f"{link.name} is a link that leads nowhere: {error.strerror}") from error
    return Path(os.path.realpath(link))
