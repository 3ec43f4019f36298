"""The folders and files that virshle uses."""

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
    """VMs, names and images. They survive a reboot."""
    run: Path
    """Sockets, which are useless after a reboot. An ordinary user has them in the state folder: XDG_RUNTIME_DIR is not
    set for cron, and a logout empties it (pam_systemd(8)) while VMs still run."""
    config: Path
    """The configuration file. It may be missing."""
    origins: Mapping[str, str]
    """For each of the three: where its path comes from."""
    former: tuple[Path, ...] = ()
    """Folders in which an older virshle kept sockets. VMs that still run may have their sockets there."""

    @property
    def names(self) -> Path:
        """A link for each VM."""
        return self.state / "name"

    @property
    def images(self) -> Path:
        return self.state / "image"

    def imported(self, name: str) -> Path:
        """The disk of an imported image."""
        return self.images / name / "disk.raw"


def find_paths(environ: Mapping[str, str] = os.environ, *, root: bool | None = None) -> Paths:
    """Root uses the system's folders, other users use the XDG folders. VIRSHLE_* variables change each path.

    Raises ConfigError."""
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
    """The folders of a login session. The caller may be outside of a session: logind's folder is found all the same."""
    named = environ.get("XDG_RUNTIME_DIR", "")
    folders = [*([named] if named.startswith("/") else []), f"/run/user/{os.getuid()}"]
    return [Path(folder) / "virshle" for folder in dict.fromkeys(folders)]


def _beside(state: Path, session: list[Path]) -> _Chosen:
    """The folder beside the state; the session's folder if the path beside the state is too long for sockets."""
    beside = state / "run"
    if not fits_sockets(beside) and fits_sockets(session[0]) and session[0].parent.is_dir():
        return session[0], f"{beside} is too long for sockets"
    return beside, "beside the state"


def _check_text(path: Path, who: str) -> None:
    """Paths must be UTF-8: vm.json is JSON, and QEMU gets paths as JSON. Raises ConfigError."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"the path {path} is not UTF-8; it comes from: {who}", hint="choose a path that is valid UTF-8"
        ) from None


def _xdg(environ: Mapping[str, str], variable: str, default: str) -> Path:
    value = environ.get(variable, "")
    # The XDG base directory specification: a relative path in these variables must be ignored.
    return Path(value) if value.startswith("/") else caller_home() / default
