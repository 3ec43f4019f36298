"""The user VMMs run as. Root's have one of their own, without any privilege; anybody else's run as who starts them.

To that user belong a VM's disks, its logs and its runtime folder. Folders on the way are entered by anybody (0711) and
listed by nobody; every file in them is its owner's alone.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from shlex import quote

from virshle.errors import ConfigError, ConflictError
from virshle.plan import Step, run

ACCOUNT = "virshle-vmm"


def vmm_user() -> str | None:
    """None where that is who calls."""
    return ACCOUNT if os.geteuid() == 0 else None


def account_steps(user: str | None, *, blind: bool = False) -> list[Step]:
    """Makes the user on the first start, and a member of group kvm; a package or the NixOS module may have done so
    before. `blind`: as on a host of which nothing is known."""
    if user is None:
        return []
    kvm = _kvm_group()
    if _uid(user) is None or blind:
        words = ("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent")
        shell = ("--shell", "/usr/sbin/nologin", "--comment", "runs virshle's VMs")
        groups = ("--groups", "kvm") if kvm is not None else ()
        return [run(f"make the user {user}, as whom VMMs run", *words, *shell, *groups, user)]
    if kvm is not None and kvm not in os.getgrouplist(user, pwd.getpwnam(user).pw_gid):
        return [join_kvm(user)]
    return []


def join_kvm(user: str) -> Step:
    return run(f"let {user} use KVM", "usermod", "--append", "--groups", "kvm", user)


def _kvm_group() -> int | None:
    """/dev/kvm and /dev/vhost-vsock are of it where udev's own rules hold (systemd: 50-udev-default.rules)."""
    import grp

    try:
        return grp.getgrnam("kvm").gr_gid
    except KeyError:
        return None


def _uid(user: str) -> int | None:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def may_open(user: str | None, path: Path) -> bool:
    """Whether a device may be opened for reading and writing by that user, who need not be there yet."""
    if user is None:
        return os.access(path, os.R_OK | os.W_OK)
    status = path.stat()
    # The first class that is the user's decides, whatever the others may (path_resolution(7)).
    mine = ((status.st_uid == _uid(user), 0o600), (status.st_gid in _gids(user), 0o060), (True, 0o006))
    wanted = next(bits for applies, bits in mine if applies)
    return status.st_mode & wanted == wanted


def _gids(user: str) -> set[int]:
    """Its groups, with that which `account_steps` puts it in."""
    kvm = _kvm_group()
    own = set() if _uid(user) is None else set(os.getgrouplist(user, pwd.getpwnam(user).pw_gid))
    return own | ({kvm} if kvm is not None else set())


def hand_over(
    user: str | None, *, ways: Iterable[Path], made: Iterable[Path], things: Iterable[Path], blind: bool = False
) -> list[Step]:
    """Lets the user pass through the folders `ways`, and gives it what was `made` just before, and of `things` those
    that are not its own yet.

    Raises ConfigError where a folder above them, which is not ours to change, keeps it out; ConflictError for a file
    that has another name as well: whoever made that link, a VMM in its own folder say, would be given whatever it is.
    """
    if user is None:
        return []
    ways = list(ways)
    for way in ways:
        check_way(user, way, ways)
    closed = [way for way in ways if blind or not way.exists() or not way.stat().st_mode & stat.S_IXOTH]
    uid = _uid(user)
    others = [
        thing for thing in things if blind or uid is None or not os.path.lexists(thing) or thing.lstat().st_uid != uid
    ]
    for thing in others:
        if not blind and _is_linked(thing):
            raise ConflictError(
                f"{thing} is not given to {user}, the user VMMs run as: it is a hard link, its file is elsewhere too",
                hint=f"see what it is: find / -xdev -samefile {quote(str(thing))}; "
                "then remove it, or put a copy in its place",
            )
    others = [*made, *others]
    steps: list[Step] = []
    if closed:
        steps.append(run(f"let {user} pass", "chmod", "0711", "--", *closed))
    if others:
        owner = f"{user}:{user}"
        steps.append(run(f"give {user} what it works with", "chown", "--no-dereference", owner, "--", *others))
    return steps


def ways_above(user: str | None, folder: Path) -> list[Step]:
    """Makes the folders above one where they are missing, for that user to pass. `mkdir -p` alone makes them as our
    umask has it, for us alone, and what is in one would be refused then (`check_way`)."""
    missing = [above for above in reversed(folder.parents) if not above.exists()]
    if user is None or not missing:
        return []
    return [run(f"make the folders above, which {user} may pass", "mkdir", "-p", "-m", "0711", "--", *missing)]


def _is_linked(path: Path) -> bool:
    if not os.path.lexists(path):
        return False
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_nlink > 1


def own_path(program: str, user: str | None) -> str:
    """Where it is itself. A link to it may be where the VMMs' user may not pass: a Nix profile's is in a home. Raises
    ConfigError where that user does not reach it all the same."""
    path = Path(program).resolve()
    if user is not None:
        check_way(user, path, (), hint=f"install {path.name} for everybody")
    return str(path)


def check_way(user: str, way: Path, ours: Sequence[Path], *, hint: str = "") -> None:
    """Raises ConfigError where a folder above `way`, and not among `ours`, keeps the user out."""
    for above in way.parents:
        if above in ours or not above.exists():
            continue
        status = above.stat()
        if not status.st_mode & stat.S_IXOTH and status.st_uid != _uid(user):
            raise ConfigError(
                f"{above} may not be entered by {user}, the user VMMs run as, and {way} is in it",
                hint=f"{hint or 'keep the VMs elsewhere (VIRSHLE_STATE_DIR, VIRSHLE_RUN_DIR)'}, or: "
                f"chmod o+x {quote(str(above))}",
            )


def as_user(user: str | None) -> list[str]:
    """What a command is prefixed with to run as that user, with no privilege and no way to get one."""
    if user is None:
        return []
    identity = (f"--reuid={user}", f"--regid={user}", "--init-groups")
    return ["setpriv", *identity, "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "--"]
