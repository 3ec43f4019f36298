"""The parts of the tiny image as Debian packages, where there is no nixpkgs: resolved and fetched by apt, which
checks them, into a folder that the Nix expression reads. Nothing is installed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from virshle.errors import ConfigError, HostError
from virshle.exec import Command, Result, find_program
from virshle.exec import run as run_now
from virshle.model.arch import Arch
from virshle.plan import Gauge, Run, Step, run

PROGRAMS = ("busybox-static", "dropbear-bin", "e2fsprogs", "socat")
BUSYBOX = "busybox-static"
# As if nothing were installed, so that every library is in the list; and without the lock, so that an ordinary
# user may ask (apt.conf(5)).
_ASK = ("-qq", "-o", "Dir::State::status=/dev/null", "-o", "Debug::NoLocking=1", "--no-install-recommends")
_URI = re.compile(r"^'[^']+' (\S+)_([^_\s]+)_(\S+)\.deb (\d+) ", re.MULTILINE)


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    arch: str
    size: int
    """Bytes of the .deb."""

    @property
    def file(self) -> str:
        """As `apt-get download` names it, `:` and the like percent-encoded."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.arch}.deb"


def have_apt() -> bool:
    return find_program("apt-get") is not None and find_program("dpkg-deb") is not None


def update_lists() -> Run:
    return run("learn what Debian has: apt's lists are empty", "apt-get", "-qq", "update", timeout=600)


def resolve(arch: Arch) -> list[Package] | None:
    """All that is needed, with libraries; None where apt knows no packages yet. Raises HostError."""
    asked = _ask("--print-uris", "install", *PROGRAMS)
    if asked.code != 0:
        if "Unable to locate package" in asked.stderr:
            return None
        raise HostError(
            "apt cannot resolve the parts of the tiny image",
            details=asked.stderr.splitlines(),
            hint="mend apt's sources, then: apt-get update",
        )
    packages = _parse(asked.stdout)
    kernel = _kernel(arch)
    packages += _parse(_ask("--print-uris", "download", kernel).stdout)
    if not any(package.name == kernel for package in packages):
        raise HostError(f"apt has no package {kernel}", hint="mend apt's sources, then: apt-get update")
    return sorted(packages, key=lambda package: package.name)


def _ask(*words: str) -> Result:
    return run_now(Command(("apt-get", *_ASK, *words)), check=False)


def _parse(uris: str) -> list[Package]:
    return [Package(name, unquote(version), arch, int(size)) for name, version, arch, size in _URI.findall(uris)]


def _kernel(arch: Arch) -> str:
    """The kernel the meta package depends on; its own dependencies are for installing it."""
    meta = f"linux-image-cloud-{arch.debian}"
    said = run_now(Command(("apt-cache", "depends", "--important", meta)), check=False).stdout
    hit = re.search(r"Depends: (linux-image-\S+)", said)
    if hit is None:
        raise ConfigError(f"apt has no package {meta}", hint="mend apt's sources, then: apt-get update")
    return hit[1]


def fetched(packages: list[Package], folder: Path) -> bool:
    """Whether the folder holds just these already."""
    there = {path.name for path in folder.glob("*.deb")}
    return there == {package.file for package in packages} and (folder / "busybox").is_dir()


def fetch(packages: list[Package], folder: Path) -> list[Step]:
    """Into a folder beside it first, which takes its place when it is whole."""
    staged = folder.with_name(f".new-{folder.name}")
    total = sum(package.size for package in packages)
    gauge = Gauge("fetch Debian packages", tuple(staged / package.file for package in packages), total)
    names = [f"{package.name}={package.version}" for package in packages]
    busybox = next(staged / package.file for package in packages if package.name == BUSYBOX)
    return [
        run("drop half of an earlier try", "rm", "-rf", "--", staged),
        run("make a folder for the parts", "mkdir", "-p", staged, undo=[run("drop it", "rm", "-rf", "--", staged)]),
        run(
            "fetch the parts; apt checks them",
            *("env", "-C", str(staged), "apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *names),
            gauge=gauge,
            timeout=3600,
        ),
        # The one program that unpacks all others, inside Nix.
        run("unpack busybox, which builds the rest", "dpkg-deb", "-x", busybox, staged / "busybox"),
        run("drop the old parts", "rm", "-rf", "--", folder),
        run("put the new ones in place", "mv", "-T", staged, folder),
    ]
