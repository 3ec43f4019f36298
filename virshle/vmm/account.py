"""The user that runs the VMMs. Root's VMMs run as a special user without privileges; the VMMs of other users run as the
user who starts them.

That user owns a VM's disks, its logs and its runtime folder. Every user may enter the folders above them, but only the
owner may list those folders (0711). Only its owner may read a file in them.
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
    """The user that runs VMMs. None if that is the caller."""
    return ACCOUNT if os.geteuid() == 0 else None


def account_steps(user: str | None, *, blind: bool = False) -> list[Step]:
    """Creates the user at the first start and adds it to the group kvm. A package or the NixOS module may have done
    that already. `blind`: assume nothing about the host."""
    if user is None:
        return []
    kvm = _kvm_group()
    if _uid(user) is None or blind:
        words = ("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent")
        shell = ("--shell", "/usr/sbin/nologin", "--comment", "runs virshle's VMs")
        groups = ("--groups", "kvm") if kvm is not None else ()
        return [run(f"create the user {user}, which runs the VMMs", *words, *shell, *groups, user)]
    if kvm is not None and kvm not in os.getgrouplist(user, pwd.getpwnam(user).pw_gid):
        return [join_kvm(user)]
    return []


def join_kvm(user: str) -> Step:
    return run(f"let {user} use KVM", "usermod", "--append", "--groups", "kvm", user)


def _kvm_group() -> int | None:
    """The group of /dev/kvm and /dev/vhost-vsock by udev's default rules (systemd: 50-udev-default.rules)."""
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
    """True if the user may open the device for reading and writing. The user may not exist yet."""
    if user is None:
        return os.access(path, os.R_OK | os.W_OK)
    status = path.stat()
    # Only the first class that applies to the user counts: owner, then group, then others (path_resolution(7)).
    mine = ((status.st_uid == _uid(user), 0o600), (status.st_gid in _gids(user), 0o060), (True, 0o006))
    wanted = next(bits for applies, bits in mine if applies)
    return status.st_mode & wanted == wanted


def _gids(user: str) -> set[int]:
    """The user's groups, and the group that `account_steps` adds."""
    kvm = _kvm_group()
    own = set() if _uid(user) is None else set(os.getgrouplist(user, pwd.getpwnam(user).pw_gid))
    return own | ({kvm} if kvm is not None else set())


def hand_over(
    user: str | None, *, ways: Iterable[Path], made: Iterable[Path], things: Iterable[Path], blind: bool = False
) -> list[Step]:
    """Lets the user enter the folders `ways`, and makes it the owner of all files in `made`, which were just made, and
    of those `things` that it does not own yet.

    Raises ConfigError if the user cannot enter a folder above them that virshle must not change. Raises ConflictError
    for a file with a second hard link: in its own folder, a VMM can make a link to any file, and would become the owner
    of that file.
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
                f"{thing} is not given to {user}, the user that runs VMMs: the file has another name too (a hard link)",
                hint=f"find its other names: find / -xdev -samefile {quote(str(thing))}; "
                "then remove this one, or put a copy in its place",
            )
    others = [*made, *others]
    steps: list[Step] = []
    if closed:
        steps.append(run(f"let {user} enter the folders", "chmod", "0711", "--", *closed))
    if others:
        owner = f"{user}:{user}"
        steps.append(run(f"give {user} the VM's files", "chown", "--no-dereference", owner, "--", *others))
    return steps


def ways_above(user: str | None, folder: Path) -> list[Step]:
    """Makes the missing folders above `folder`, so that the user may enter them. `mkdir -p` alone would use our umask:
    only we could enter them, and `check_way` would refuse everything in them."""
    missing = [above for above in reversed(folder.parents) if not above.exists()]
    if user is None or not missing:
        return []
    return [run(f"make the parent folders, which {user} may enter", "mkdir", "-p", "-m", "0711", "--", *missing)]


def _is_linked(path: Path) -> bool:
    if not os.path.lexists(path):
        return False
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_nlink > 1


def own_path(program: str, user: str | None) -> str:
    """The path of the program without links. A link may be in a folder that the user cannot enter: the links of a Nix
    profile are in a home.

    Raises ConfigError if the user cannot reach the program itself."""
    path = Path(program).resolve()
    if user is not None:
        check_way(user, path, (), hint=f"install {path.name} for everybody")
    return str(path)


def check_way(user: str, way: Path, ours: Sequence[Path], *, hint: str = "") -> None:
    """Raises ConfigError if the user cannot enter a folder above `way` that is not in `ours`."""
    for above in way.parents:
        if above in ours or not above.exists():
            continue
        status = above.stat()
        if not status.st_mode & stat.S_IXOTH and status.st_uid != _uid(user):
            raise ConfigError(
                f"{above} may not be entered by {user}, the user that runs VMMs, and {way} is in it",
                hint=f"{hint or 'keep the VMs in another folder (VIRSHLE_STATE_DIR, VIRSHLE_RUN_DIR)'}, or: "
                f"chmod o+x {quote(str(above))}",
            )


def as_user(user: str | None) -> list[str]:
    """The words before a command that run it as that user, without privileges and without a way to get any."""
    if user is None:
        return []
    identity = (f"--reuid={user}", f"--regid={user}", "--init-groups")
    return ["setpriv", *identity, "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "--"]
