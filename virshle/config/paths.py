"""Where everything is kept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from virshle.errors import ConfigError
from virshle.fs import expand


@dataclass(frozen=True)
class Paths:
    state: Path
    """VMs, names, images: survives a reboot."""
    run: Path
    """Sockets and process records: gone at a reboot."""
    config: Path
    """The configuration file, there or not."""
    origins: Mapping[str, str]
    """Who chose each of the three."""

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
        state = _xdg(environ, "XDG_STATE_HOME", "~/.local/state") / "virshle"
        config = _xdg(environ, "XDG_CONFIG_HOME", "~/.config") / "virshle/config.toml"
        system = Path("/etc/virshle/config.toml")
        chosen = {"state": (state, "XDG_STATE_HOME"), "config": (config, "XDG_CONFIG_HOME")}
        if (runtime := environ.get("XDG_RUNTIME_DIR", "")).startswith("/"):
            chosen["run"] = (Path(runtime) / "virshle", "XDG_RUNTIME_DIR")
        else:
            chosen["run"] = (state / "run", "there is no XDG_RUNTIME_DIR")
        if system.exists() and not config.exists():
            chosen["config"] = (system, "there is no file of your own")
    for name, variable in (("state", "STATE_DIR"), ("run", "RUN_DIR"), ("config", "CONFIG")):
        if value := environ.get(f"VIRSHLE_{variable}"):
            chosen[name] = (expand(value), f"VIRSHLE_{variable}")
    for path, who in chosen.values():
        _check_text(path, who)
    return Paths(
        chosen["state"][0],
        chosen["run"][0],
        chosen["config"][0],
        {name: who for name, (_, who) in chosen.items()},
    )


def _check_text(path: Path, who: str) -> None:
    """What is written down of a VM is JSON, and QEMU is told by JSON. Raises ConfigError."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{path} is not UTF-8, and was chosen by: {who}", hint="choose a folder that is") from None


def _xdg(environ: Mapping[str, str], variable: str, default: str) -> Path:
    value = environ.get(variable, "")
    # The XDG base directory specification: a relative path in these is to be ignored.
    return Path(value) if value.startswith("/") else expand(default)
