"""The real thing on this machine: nix, QEMU, file systems. Each test has folders of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.host.host import Host
from tests.host.script import Script, made


def pytest_configure() -> None:
    """VIRSHLE_TEST_NIX: a folder with the programs of another nix than the one in PATH."""
    if (other := os.environ.get("VIRSHLE_TEST_NIX")) is not None:
        if not os.access(Path(other, "nix"), os.X_OK):
            raise pytest.UsageError(f"VIRSHLE_TEST_NIX={other}: there is no program nix")
        os.environ["PATH"] = f"{other}:{os.environ['PATH']}"


@pytest.fixture(scope="session")
def tiny() -> Iterator[Path]:
    """The state of a host on which the tiny image was built; its folder is copied into each test's."""
    folder = Path(tempfile.mkdtemp(prefix="vt-", dir="/tmp"))
    host = Host(folder)
    host.v("image", "build", "tiny", timeout=900)
    yield host.state / "image" / "tiny"
    shutil.rmtree(folder)


@pytest.fixture
def bare() -> Iterator[Host]:
    """A host that has nothing yet. Short paths: a socket's may have 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="vt-", dir="/tmp"))
    # The user as whom root's VMMs run must be able to pass.
    folder.chmod(0o711)
    host = Host(folder)
    host.env["HOME"] = str(folder)
    yield host
    host.env.pop("VIRSHLE_CONFIG", None)
    # A nix that a test left behind ends its builder when it is interrupted.
    subprocess.run(["pkill", "-INT", "-f", str(folder)], check=False)
    left = host.vmms()
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def host(bare: Host, tiny: Path) -> Host:
    """A host on which the tiny image is built."""
    target = bare.state / "image" / "tiny"
    target.mkdir(parents=True)
    for name in ("result", "image.json"):
        shutil.copy(tiny / name, target / name, follow_symlinks=False)
    return bare


@pytest.fixture
def small_disk(bare: Host) -> Iterator[Callable[[str], Path]]:
    """Mounts a tmpfs of that size as the host's state folder."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount the small file system this needs")
    mounted = []

    def mount(size: str) -> Path:
        bare.state.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(bare.state)], check=True)
        mounted.append(bare.state)
        return bare.state

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def folder() -> Iterator[Path]:
    """That another user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="vt-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def vm(folder: Path) -> Iterator[Script]:
    vm = made(folder)
    vm.write()
    yield vm
    with suppress(AssertionError, ProcessLookupError):
        os.kill(vm.pid, signal.SIGKILL)
