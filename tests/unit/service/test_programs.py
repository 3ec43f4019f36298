"""Every host program that the code names is one that the doctor looks for, README names and the demo installs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import virshle
from virshle.exec.run import PACKAGES
from virshle.model.arch import host_arch
from virshle.service.host_checks import _NEEDED, _USEFUL
from virshle.vmm.button import SPEAKERS

CODE = Path(virshle.__file__).parent
TREE = CODE.parent

OF = {
    "coreutils": "chmod chown cp dd echo env ln mkdir mkfifo mv printf rm sleep stat sync tail touch truncate",
    "curl": "curl",
    "dosfstools": "mkfs.vfat",
    "findutils": "find",
    "grep": "grep",
    "mtools": "mcopy",
    "nix-bin": "nix nix-instantiate nix-store",
    "openssh-client": "ssh ssh-keygen",
    "passt": "passt",
    "passwd": "useradd usermod",
    "qemu-utils": "qemu-img",
    "socat": "socat",
    "util-linux": "flock setpriv setsid unshare",
}
"""Debian's package of each program."""
ELSEWHERE = {
    "apt-cache apt-get dpkg-deb": "build the image tiny on Debian, which has them; elsewhere Nix does",
    "systemctl systemd-run": "are used where systemd runs",
    "ovs-vsctl": "is asked for its version where it is",
    "python3 perl": "do what socat does, where that is gone",
    "bash sh": "are on every system (POSIX), or run by who has one",
}
"""Programs that nobody needs to install, and why."""
ESSENTIAL = ("coreutils", "findutils", "grep", "passwd", "util-linux")
"""Packages that every Debian has (`Essential: yes`, or of priority required)."""


def _constant(node: ast.AST) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _named(tree: ast.AST) -> Iterator[str]:
    """First words of commands: given to what runs or looks for one, or followed by an option."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called == "run":  # plan.run: why, then the words
                yield from map(_constant, node.args[1:2])
            elif called in ("find_program", "missing", "exec_into", "spawn_ok"):
                yield from map(_constant, node.args[:1])
            elif called == "Command" and node.args and isinstance(node.args[0], ast.Tuple):
                yield from map(_constant, node.args[0].elts[:1])
        elif isinstance(node, ast.Tuple | ast.List) and any(_constant(word).startswith("-") for word in node.elts[1:]):
            yield _constant(node.elts[0])


def _in_script(text: str) -> Iterator[str]:
    """Of vmm.sh: the first words of its lines and of what follows another command."""
    code = re.sub(r"\{[{%].*?[%}]\}|^\s*#.*$|\"[^\"]*\"", "X", text, flags=re.MULTILINE)
    code = re.sub(r"\b(until|do|then|else|timeout 10)\b", ";", code)
    yield from re.findall(r"(?:^|[|&;!({])\s*([a-z][\w.-]*)(?=\s)", code, re.MULTILINE)


SHELL = set("case cd done esac exec exit fi for if press read return run send set size stop".split())


def _programs() -> set[str]:
    found = {name for file in CODE.rglob("*.py") for name in _named(ast.parse(file.read_text()))}
    found |= set(_in_script((CODE / "render/vmm.sh.j2").read_text())) - SHELL
    return {name for name in found if re.fullmatch(r"[a-z][a-z0-9.-]*", name)}


def _known(name: str) -> str:
    return next((package for package, names in OF.items() if name in names.split()), "")


def test_of_each_program_that_is_named_its_package_is_known() -> None:
    found = _programs()
    assert {"flock", "mcopy", "cp", "ssh", "stat", "grep", "passt", "useradd"} <= found  # it looks where they are
    elsewhere = {name for names in ELSEWHERE for name in names.split()}
    assert {name for name in found if not _known(name)} <= elsewhere
    assert elsewhere - set(SPEAKERS) <= found


def test_the_hint_for_a_missing_program_names_the_same_package() -> None:
    for name, package in PACKAGES.items():
        assert _known(name) in (package, "")


@pytest.mark.parametrize("package", OF)
def test_the_doctor_looks_for_each_package(package: str) -> None:
    checked = {*_NEEDED, *_USEFUL, "setpriv", "useradd", "nix"}
    # Where cp is, so is the rest of its package; and grep is in no smaller system than that.
    assert package == "grep" or checked & set(OF[package].split())


@pytest.mark.parametrize("package", OF)
def test_readme_names_each_package(package: str) -> None:
    needs = (TREE / "README.md").read_text().partition("## What it needs")[2]
    assert package == "grep" or package in needs


@pytest.mark.parametrize("package", [package for package in OF if package not in ESSENTIAL])
def test_the_demo_installs_each_package_that_a_vm_needs(package: str) -> None:
    if package == "qemu-utils":
        pytest.skip("only imports want it, and the demo imports nothing")
    installed = set(re.findall(r'^\s*"([\w.$-]+): ', (TREE / "scripts/lib.sh").read_text(), re.MULTILINE))
    assert {"$qemu", "nix"} <= installed
    assert host_arch().qemu.startswith("qemu-system-")
    assert installed & set(OF[package].split())
