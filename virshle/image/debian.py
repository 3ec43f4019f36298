"""The parts of the tiny image as Debian packages, for a host without nixpkgs.

apt's lists name the packages, their URLs and their hashes. The lists are signed. Nix fetches all packages except
busybox: in Nix's build, busybox unpacks the other packages, so it must be unpacked before. Nothing is installed on the
host.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from virshle.errors import HostError
from virshle.exec import Command, Result, find_program
from virshle.exec import run as run_now
from virshle.model.arch import Arch
from virshle.plan import Run, Step, Write, run

_PROGRAMS = ("dropbear-bin", "e2fsprogs", "socat")
_BUSYBOX = "busybox-static"
# These options act as if nothing is installed or fetched, so every library is in the list. They take no lock, so an
# ordinary user can ask. They ask for SHA256, which all suites have (apt.conf(5)).
_FETCH = ("-o", "Debug::NoLocking=1", "-o", "Acquire::ForceHash=SHA256", "-o", "APT::Sandbox::User=root")
_ASK = ("-y", *_FETCH, "-o", "Dir::State::status=/dev/null", "-o", "Dir::Cache::archives=/nonexistent")
_URI = re.compile(r"^'(?P<url>\S+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})$", re.MULTILINE)


@dataclass(frozen=True)
class Package:
    url: str
    file: str
    size: int
    """Bytes of the .deb."""
    sha256: str


def have_apt() -> bool:
    return find_program("apt-get") is not None and find_program("dpkg-deb") is not None


def update_lists() -> Run:
    return run("fetch apt's lists of packages: they are empty", "apt-get", "-qq", "update", timeout=600)


def resolve(arch: Arch) -> list[Package] | None:
    """All packages that the image needs, with their libraries. None if apt has no lists yet. Raises HostError."""
    kernel = _kernel(arch)
    if kernel is None:
        return None
    asked = _ask("--print-uris", "--no-install-recommends", "install", *_PROGRAMS)
    # These two without their dependencies, which only an installation needs.
    alone = _ask("--print-uris", "download", _BUSYBOX, kernel)
    for answer in (asked, alone):
        if answer.code != 0:
            raise HostError(
                "apt cannot find the packages for the tiny image",
                details=answer.stderr.splitlines()[-8:],
                hint="fix apt's sources, then: apt-get update",
            )
    found = [*_parse(asked.stdout), *_parse(alone.stdout)]
    names = {package.file.partition("_")[0] for package in found}
    if missing := {*_PROGRAMS, _BUSYBOX, kernel} - names:
        raise HostError(
            f"apt has no URL and SHA256 for {', '.join(sorted(missing))}",
            hint="apt must know them from a repository on the network: fix its sources, then: apt-get update",
        )
    return sorted({package.file: package for package in found}.values(), key=lambda package: package.file)


def _ask(*words: str) -> Result:
    return run_now(Command(("apt-get", *_ASK, *words)), check=False)


def _parse(text: str) -> list[Package]:
    return [Package(hit["url"], hit["file"], int(hit["size"]), hit["sha256"]) for hit in _URI.finditer(text)]


def _kernel(arch: Arch) -> str | None:
    """The kernel package that the meta package depends on. None if apt has no lists."""
    meta = f"linux-image-cloud-{arch.debian}"
    said = run_now(Command(("apt-cache", "depends", meta)), check=False).stdout
    hit = re.search(r"Depends: (linux-image-\S+)", said)
    return hit[1] if hit else None


def pin(packages: list[Package]) -> str:
    """The list that the Nix expression reads. It pins the packages: the same list makes the same image."""
    data = [{"url": package.url, "sha256": package.sha256} for package in packages if not _is_busybox(package)]
    return json.dumps(data, indent=1) + "\n"


def _is_busybox(package: Package) -> bool:
    return package.file.startswith(f"{_BUSYBOX}_")


def parts_steps(packages: list[Package], folder: Path) -> list[Step]:
    """Makes the folder for the Nix expression: parts.json and busybox/bin/busybox."""
    busybox = next(package for package in packages if _is_busybox(package))
    staged = folder.with_name(".new-parts")
    unpacked, target = staged / "deb", staged / "busybox" / "bin"
    return [
        run("remove what an earlier try left", "rm", "-rf", "--", staged),
        run("make a folder for the parts", "mkdir", "-p", unpacked, target),
        Write("write the list of Debian packages", staged / "parts.json", pin(packages)),
        run(
            "fetch busybox, which unpacks the others; apt checks it",
            *("env", "-C", str(staged), "apt-get", "-qq", *_FETCH, "download", _name(busybox)),
            timeout=600,
        ),
        run("unpack it", "dpkg-deb", "-x", staged / busybox.file, unpacked),
        # It is in /bin up to bookworm, and in /usr/bin since then.
        run(
            "take the program",
            *("find", unpacked, "-path", "*/bin/busybox", "-exec", "cp", "--", "{}", target, ";"),
        ),
        run("remove the old parts", "rm", "-rf", "--", folder),
        run("put the new parts in place", "mv", "-T", staged, folder),
    ]


def _name(package: Package) -> str:
    """`busybox-static=1:1.35.0-4` of busybox-static_1%3a1.35.0-4_amd64.deb"""
    name, version, _ = package.file.split("_")
    return f"{name}={version.replace('%3a', ':')}"
