"""Where everything is kept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from virshle.errors import ConfigError
from virshle.fs import caller_home, expand

SOCKET_PATH_LIMIT = 107
"""Bytes of a unix socket's path (unix(7): sun_path is 108 with its final zero)."""
LONGEST_SOCKET = "console.sock"


@dataclass(frozen=True)
class Paths:
    state: Path
    """VMs, names, images: survives a reboot."""
    run: Path
    """Sockets, which are of no use after a reboot. Ordinary users have theirs beside the state: XDG_RUNTIME_DIR is not
    set for cron, and a logout empties it (pam_systemd(8)), while VMs go on."""
    config: Path
    """The configuration file, there or not."""
    origins: Mapping[str, str]
    """Who chose each of the three."""
    former: tuple[Path, ...] = ()
    """Where an older virshle kept the sockets of VMs that may run still."""

    @property
    def names(self) -> Path:
        """A link for each VM."""
        return self.state / "name"

    @property
    def images(self) -> Path:
        return self.state / "image"

    def imported(self, name: str) -> Path:
        """The disk of an image that was imported."""
        return self.images / name / "disk.raw"


def find_paths(environ: Mapping[str, str] = os.environ, *, root: bool | None = None) -> Paths:
    """Root's are the system's folders, anybody else's the XDG ones; VIRSHLE_* move each. Raises ConfigError."""
    if root is None:
        root = os.geteuid() == 0
    if root:
        chosen = {
            "state": (Path("/var/lib/virshle"), "default for root"),
            "run": (Path("/run/virshle"), "default for root"),
            "config": (Path("/etc/virshle/config.toml"), "default for root"),
        }
    else:
        chosen = _of_user(environ)
    for name, variable in (("state", "STATE_DIR"), ("run", "RUN_DIR"), ("config", "CONFIG")):
        if value := environ.get(f"VIRSHLE_{variable}"):
            chosen[name] = (expand(value), f"VIRSHLE_{variable}")
    session = [] if root else _session_folders(environ)
    if "run" not in chosen:
        chosen["run"] = _beside(chosen["state"][0], session)
    for path, who in chosen.values():
        _check_text(path, who)
    return Paths(
        chosen["state"][0],
        chosen["run"][0],
        chosen["config"][0],
        {name: who for name, (_, who) in chosen.items()},
        tuple(path for path in session if path != chosen["run"][0]),
    )


def fits_sockets(run: Path) -> bool:
    return len(bytes(run / "vm/0123456789ab" / LONGEST_SOCKET)) <= SOCKET_PATH_LIMIT


_Chosen = tuple[Path, str]


def _of_user(environ: Mapping[str, str]) -> dict[str, _Chosen]:
    system, config = (
        Path("/etc/virshle/config.toml"),
        _xdg(environ, "XDG_CONFIG_HOME", ".config") / "virshle/config.toml",
    )
    return {
        "state": (_xdg(environ, "XDG_STATE_HOME", ".local/state") / "virshle", "XDG_STATE_HOME"),
        "config": (system, "there is no file of your own")
        if system.exists() and not config.exists()
        else (config, "XDG_CONFIG_HOME"),
    }


def _session_folders(environ: Mapping[str, str]) -> list[Path]:
    """Those of a login session, which the caller need not be in: logind's is found without it."""
    named = environ.get("XDG_RUNTIME_DIR", "")
    folders = [*([named] if named.startswith("/") else []), f"/run/user/{os.getuid()}"]
    return [Path(folder) / "virshle" for folder in dict.fromkeys(folders)]


def _beside(state: Path, session: list[Path]) -> _Chosen:
    """Where the state's path is too long, sockets in the session's folder are better than none."""
    beside = state / "run"
    if not fits_sockets(beside) and fits_sockets(session[0]) and session[0].parent.is_dir():
        return session[0], f"{beside} is too long for sockets"
    return beside, "beside the state"


def _check_text(path: Path, who: str) -> None:
    """What is written down of a VM is JSON, and QEMU is told by JSON. Raises ConfigError."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{path} is not UTF-8, and was chosen by: {who}", hint="choose a folder that is") from None


def _xdg(environ: Mapping[str, str], variable: str, default: str) -> Path:
    value = environ.get(variable, "")
    # The XDG base directory specification: a relative path in these is to be ignored.
    return Path(value) if value.startswith("/") else caller_home() / default
