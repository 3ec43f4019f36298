"""Files and folders into a guest and out of it, by tar through ssh: the guest needs no more than tar.

As `cp -r` does: what is carried to a folder that is there goes into it. What a guest sends is not trusted: it is
unpacked beside its place, looked through, and only then put there.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from uuid import uuid4

from virshle.errors import ConflictError, HostError, NotFoundError, UsageError
from virshle.fs import expand, explain
from virshle.plan import Step, run

_TIMEOUT = 6 * 3600.0
_SEND = 'set -o pipefail; tar -C "$1" -cf - "$2" | "${@:3}"'
_FETCH = (
    'set -o pipefail; "${@:2}" | tar -x --no-same-owner --no-same-permissions -f - -C "$1"; code=$?; '
    # A folder that is closed or read-only, as all in a Nix store are, could neither be looked through nor moved.
    'chmod -R u+rwX -- "$1" && exit $code'
)
_ODD = stat.S_ISUID | stat.S_ISGID


@dataclass(frozen=True)
class Carried:
    """A path on this side and one on the other. In the guest a relative one begins in the home of who logs in."""

    here: Path
    there: str


def sent(word: str) -> Carried:
    """Of `--in SRC[:DST]`. Raises UsageError, NotFoundError."""
    source, target = (word, "") if word and Path(word).exists() else _split(word)
    here = expand(source)
    if not (here.is_file() or here.is_dir()):
        raise NotFoundError(f"--in {word}: there is no file or folder {source}", hint="write --in SRC:DST")
    return Carried(here.resolve(), target or here.resolve().name)


def fetched(word: str) -> Carried:
    """Of `--out SRC[:DST]`. Raises UsageError, and ConflictError where a folder would have to be replaced."""
    source, target = _split(word)
    name = posixpath.basename(posixpath.normpath(source))
    if name in ("", ".", "..", "/"):
        raise UsageError(f"--out {word}: {source!r} names nothing to fetch", hint="for example: --out result:./result")
    here = expand(target or ".")
    here = here / name if here.is_dir() or target.endswith("/") else here
    if here.is_dir():
        raise ConflictError(f"--out {word}: there is a folder {here} already", hint="remove it, or choose another DST")
    return Carried(here, posixpath.normpath(source))


def _split(word: str) -> tuple[str, str]:
    source, _, target = word.partition(":")
    if not source or "\0" in word:
        raise UsageError(f"{word!r} names nothing", hint="write SRC, or SRC:DST")
    return source, target


def send_step(ssh: Sequence[str], what: Carried) -> Step:
    """`ssh`: the command up to the one that the guest is given."""
    there = quote(what.there if what.there.startswith("/") else f"./{what.there}")
    if what.here.is_dir():
        unpack = f"mkdir -p {there} && tar -x -o -f - -C {there}"
        words: tuple[str | Path, ...] = (what.here, ".")
    else:
        folder = quote(posixpath.dirname(what.there if what.there.startswith("/") else f"./{what.there}"))
        unpack = (
            f"mkdir -p {folder} && new=$(mktemp -d {folder}/.new.XXXXXX) && "
            'tar -x -o -f - -C "$new" && '
            f'mv -f "$new"/{quote(what.here.name)} {there}; code=$?; rm -rf "$new"; exit $code'
        )
        words = (what.here.parent, f"./{what.here.name}")
    return run(f"copy {what.here} in", "bash", "-c", _SEND, "bash", *words, *ssh, "--", unpack, timeout=_TIMEOUT)


def fetch_steps(ssh: Sequence[str], what: Carried) -> tuple[Path, list[Step]]:
    """The path at which it will be, to be looked through before it is put in its place."""
    folder, name = posixpath.split(what.there)
    staged = what.here.parent / f".{what.here.name}.{uuid4().hex[:8]}"
    pack = f"tar -cf - -C {quote(folder or '.')} ./{quote(name)}"
    remove = run("remove what came out", "rm", "-rf", "--", staged)
    steps: list[Step] = [
        run("make a folder for it", "mkdir", "-p", "-m", "0700", staged, undo=[remove]),
        run(f"copy {what.there} out", "bash", "-c", _FETCH, "bash", staged, *ssh, "--", pack, timeout=_TIMEOUT),
    ]
    return staged / name, steps


def place_steps(came: Path, what: Carried) -> list[Step]:
    return [
        run("put it in its place", "mv", "-T", "--", came, what.here),
        run("remove the folder it came in", "rm", "-rf", "--", came.parent),
    ]


def look_through(came: Path) -> None:
    """Raises HostError where there is anything but files, folders, and links among them: no link may lead out of what
    is put in its place, wherever that will be."""
    if not os.path.lexists(came):
        raise HostError(f"{came.name} did not come out of the guest")
    home = came.parent.resolve()
    top = home / came.name
    for path in _everything(top):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            if path == top or path.readlink().is_absolute() or not _leads(path).is_relative_to(top):
                raise HostError(
                    f"{path.relative_to(home)} is a link to {path.readlink()}, which is outside of what came out",
                    hint="copy what it links to, in the guest: cp -rL",
                )
        elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or mode & _ODD:
            raise HostError(f"{path.relative_to(home)} is no plain file or folder", hint="leave it in the guest")


def _everything(came: Path) -> Iterator[Path]:
    yield came
    for folder, folders, files in os.walk(came, onerror=_refuse) if came.is_dir() else ():
        yield from (Path(folder) / name for name in (*folders, *files))


def _refuse(error: OSError) -> None:
    raise explain(error, f"what came out cannot be looked through: {error.filename}: {error.strerror}") from error


def _leads(link: Path) -> Path:
    """Raises HostError for one that leads to itself."""
    try:
        return link.resolve()
    except (RuntimeError, OSError) as error:
        raise HostError(f"{link.name} is a link that leads nowhere: {error}") from error
