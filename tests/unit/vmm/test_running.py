from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.support import uuid_of
from virshle.config.paths import Paths
from virshle.exec.table import Listed
from virshle.vmm import running
from virshle.vmm.running import VmProcess, vm_processes

UUID = uuid_of("web")
RUN = UUID.hex[:12]


@pytest.fixture
def here(paths: Paths) -> Paths:
    return replace(paths, state=Path("/s,1"), run=Path("/r"))


def _found(monkeypatch: pytest.MonkeyPatch, paths: Paths, *argv: str) -> list[tuple[str, str]]:
    monkeypatch.setattr(running, "processes", lambda: iter([Listed(7, argv)]))
    monkeypatch.setattr(running, "parent_of", lambda _: 4)
    found = vm_processes(paths)
    assert [(one.pid, one.parent) for one in found] == [(7, 4)] * len(found)
    return [(one.kind, one.run) for one in found]


@pytest.mark.parametrize(
    ("argv", "kind"),
    [
        (("/usr/bin/qemu-system-x86_64", "-drive", f"file=/s,,1/vm/{UUID}/disk/os,format=raw"), "qemu"),
        (("/nix/store/x/bin/.qemu-system-aarch64-wrapped", f"path=/r/vm/{RUN}/qmp.sock"), "qemu"),
        (("cloud-hypervisor", "--api-socket", f"path=/r/vm/{RUN}/ch.sock"), "cloud-hypervisor"),
        (("/opt/cloud-hypervisor-static", f"/s,1/vm/{UUID}/disk/os"), "cloud-hypervisor"),
        (("passt", "--socket", f"/r/vm/{RUN}/net0.sock"), "passt"),
        (("passt.avx2", "--socket", f"/r/vm/{RUN}/net0.sock"), "passt"),
        (("/bin/sh", f"/s,1/vm/{UUID}/vmm.sh", "run"), "vmm.sh"),
    ],
)
def test_what_runs_a_vm_is_known(
    argv: tuple[str, ...], kind: str, here: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _found(monkeypatch, here, *argv) == [(kind, RUN)]


@pytest.mark.parametrize(
    "argv",
    [
        ("less", f"/s,1/vm/{UUID}/vmm.sh"),
        ("grep", "qemu-system-x86_64", f"/s,1/vm/{UUID}/commands.log"),
        ("cp", "--", "/image", f"/s,1/vm/.new-{UUID}/disk/os"),
        ("sh", f"/s,1/vm/{UUID}/vmm.sh", "stop"),
        ("qemu-img", "info", f"/s,1/vm/{UUID}/disk/os"),
        ("qemu-system-x86_64", "-drive", "file=/mnt/s,,1/vm/x"),
        ("qemu-system-x86_64", "-drive", f"file=/s/vm/{UUID}/disk/os"),
        ("passt", "--socket", "/run/podman/1.sock"),
        ("cloud-hypervisor", "--version"),
        ("cloud-hypervisor", "path=/r2/vm/x"),
    ],
)
def test_what_runs_none_of_ours_is_not(argv: tuple[str, ...], here: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _found(monkeypatch, here, *argv) == []


def test_one_that_names_our_folder_and_no_vm_is_told(here: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _found(monkeypatch, here, "qemu-system-x86_64", "file=/s,,1/image/tiny/result") == [("qemu", "")]


def test_a_state_folder_is_known_by_each_of_its_names(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    linked = replace(paths, state=tmp_path / "link")
    for name in ("link", "real"):
        assert _found(monkeypatch, linked, "passt", f"{tmp_path}/{name}/vm/{UUID}/x") == [("passt", RUN)]


def test_what_helps_a_vmm_is_none() -> None:
    kinds = ("qemu", "cloud-hypervisor", "passt", "vmm.sh")
    assert [VmProcess(1, 1, kind, RUN).is_vmm for kind in kinds] == [True, True, False, False]
