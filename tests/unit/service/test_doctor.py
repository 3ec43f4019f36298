from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.support import make_vm, put_broken, put_vm, snapshot, uuid_of
from virshle.errors import ConfigError, HostError
from virshle.fs import Lock
from virshle.model.arch import host_arch
from virshle.nix import NixHost
from virshle.service import check, doctor, host_checks, show
from virshle.service.doctor import examine
from virshle.service.host_checks import Check
from virshle.service.node import Node
from virshle.store import Layout
from virshle.vmm.place import Place

Look = Callable[[], dict[str, Check]]


@pytest.fixture
def look(node: Node, host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Look:
    monkeypatch.setattr(check, "MOMENT", 0)
    monkeypatch.setattr(doctor, "find_nix", lambda _: NixHost("nix", (2, 18, 1), "/nix/store"))
    monkeypatch.setattr(host_checks, "find_qemu_firmware", lambda _: (Path("/fw/code"), Path("/fw/vars")))
    monkeypatch.setattr(host_checks, "find_firmware", lambda wanted, arch: Path("/fw/CLOUDHV.fd"))
    monkeypatch.setattr(host_checks, "kvm_problem", lambda *_: host.kvm)
    monkeypatch.setattr(host_checks, "landlock_works", lambda: True)
    monkeypatch.setattr(host_checks, "VSOCK", tmp_path / "vhost-vsock")
    (tmp_path / "vhost-vsock").touch()
    host.answers["stat"] = "xfs\n"
    host.have_cloud_hypervisor()
    host.have("curl", "qemu-img")
    return lambda: {check.name: check for check in examine(node)}


def test_a_host_with_all_is_well(look: Look) -> None:
    assert {check.ok for check in look().values()} == {"yes"}
    assert look()[host_arch().qemu].found == "version 7.2.22"
    assert look()["nix"].found == "2.18.1, builds go to /nix/store"
    assert look()["VMs"].found == "0 whole, 0 of them running"


def test_looking_changes_nothing(look: Look, node: Node, layout: Layout) -> None:
    layout.staged(uuid_of("left")).mkdir()
    put_vm(layout, make_vm(), links=False)
    before = snapshot(layout.paths.state)
    look()
    assert snapshot(layout.paths.state) == before
    Lock(layout.staged(uuid_of("left")), patience=0).release()


def test_a_missing_program_is_told_with_its_package(look: Look, host: FakeHost) -> None:
    (host.programs / "mcopy").unlink()
    assert look()["mcopy"].ok == "no"
    assert "apt-get install mtools" in look()["mcopy"].remedy
    assert "host programs" not in look()


def test_no_kvm_is_a_limit_not_a_fault(look: Look, host: FakeHost) -> None:
    host.kvm = "/dev/kvm is not there"
    assert look()["KVM"].ok == "limited"
    assert "software emulation" in look()["KVM"].found


@pytest.mark.parametrize("module", ["kvm_intel", "kvm_amd", ""])
def test_a_module_is_loaded_only_for_a_processor_that_has_it(
    module: str, look: Look, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.kvm = "/dev/kvm is not there"
    monkeypatch.setattr(host_checks, "kvm_module", lambda: module)
    remedy = look()["KVM"].remedy
    assert remedy == f"modprobe {module}" if module else "setup" in remedy and "modprobe" not in remedy


def test_what_cannot_be_found_is_told_with_its_hint(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: object) -> tuple[Path, Path]:
        raise ConfigError("no firmware", hint="install it")

    monkeypatch.setattr(host_checks, "find_qemu_firmware", none)
    assert look()["firmware for QEMU"] == Check("firmware for QEMU", "limited", "no firmware", "install it")


def test_broken_vms_and_leftovers_are_told(look: Look, layout: Layout) -> None:
    put_vm(layout, make_vm(), links=False)
    put_broken(layout, uuid_of("bad"), name="bad")
    layout.staged(uuid_of("left")).mkdir()
    found = look()
    assert found["VM bad"].ok == "no"
    assert "it is not JSON" in found["VM bad"].found
    assert found["VMs"].found == "1 whole, 0 of them running"
    assert found["leftover"].ok == "limited"
    assert {name for name, check in found.items() if check.area == "state"} == {"VM bad", "VMs", "leftover"}


def test_what_a_guest_has_filled_is_a_note(
    look: Look, node: Node, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Place, "longest_log", 2**16)
    log = put_vm(layout, make_vm()) / "log/console.log"
    log.write_bytes(b"x" * 2**17)
    found = look()["VM web"]
    assert (found.ok, found.area, found.remedy) == ("limited", "state", f"truncate -s 0 -- {log}")


def test_a_state_that_cannot_be_looked_at_is_told(look: Look, monkeypatch: pytest.MonkeyPatch, layout: Layout) -> None:
    def fail(_: object) -> None:
        raise HostError("cannot look", hint="be root")

    monkeypatch.setattr(doctor, "check", fail)
    assert look()["VMs"] == Check("VMs", "no", "cannot look", "be root", "state")


def test_a_folder_that_may_not_be_written_is_told(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: "state" not in str(path))
    assert look()["state folder"].ok == "no"
    assert "VIRSHLE_STATE_DIR" in look()["state folder"].remedy
    assert look()["runtime folder"].ok == "yes"


def test_folders_are_not_made_by_looking(node: Node, look: Look, tmp_path: Path) -> None:
    fresh = Node(replace(node.paths, state=tmp_path / "a" / "b"))
    checks = {check.name: check for check in examine(fresh)}
    assert checks["state folder"].found.endswith("(does not exist yet)")
    assert not (tmp_path / "a").exists()


def test_warnings_of_the_configuration_are_told(node: Node, look: Look) -> None:
    node.paths.config.write_text('[node]\nalias = "x"\n')
    warning = f"{node.paths.config}: node.alias has no effect: there is no node service to use it"
    assert Check("configuration", "limited", warning) in examine(Node(node.paths))


@pytest.mark.parametrize(
    ("name", "lost"), [("socat", "cannot be pasted"), ("curl", "cannot be pasted"), ("passt", "run on QEMU")]
)
def test_what_is_useful_is_not_needed(name: str, lost: str, look: Look, host: FakeHost) -> None:
    (host.programs / name).unlink()
    assert look()[name].ok == "limited"
    assert lost in look()[name].found
    assert f"apt-get install {name}" in look()[name].remedy
    assert look()["host programs"].ok == "yes"


def test_it_says_which_hypervisor_auto_takes(look: Look, host: FakeHost) -> None:
    auto = 'hypervisor = "auto"'
    assert look()[auto].found.startswith("uses cloud-hypervisor")
    assert look()["cloud-hypervisor"].found == f"v53.0, {host.programs / 'cloud-hypervisor'}"
    host.kvm = "/dev/kvm is not there"
    assert look()[auto].found.startswith("uses QEMU: cloud-hypervisor needs KVM")
    assert look()["cloud-hypervisor"].ok == "limited"
    (host.programs / host_arch().qemu).unlink()
    assert (look()[auto].ok, look()[host_arch().qemu].ok) == ("no", "limited")


def test_a_version_with_a_known_hole_is_told(look: Look, host: FakeHost) -> None:
    host.have_cloud_hypervisor("v51.0.0")
    assert look()["cloud-hypervisor"].ok == "limited"
    assert "CVE-2026-45782" in look()["cloud-hypervisor"].found


def test_of_roots_host_the_vmms_users_way_is_looked_at(
    systemd: None, look: Look, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.answers["systemctl"] = ""

    def closed(user: str, way: Path, ours: object) -> None:
        raise ConfigError(f"{way} may not be entered by {user}", hint="open it")

    assert look()["VMMs"].found.startswith("run as virshle-vmm, each in a unit of systemd")
    assert look()["way to the state folder"].ok == "yes"
    monkeypatch.setattr(doctor, "check_way", closed)
    assert look()["way to the state folder"].ok == "no"
    assert look()["way to the runtime folder"].remedy == "open it"


def test_a_broken_configuration_is_one_line_and_the_rest_goes_on(node: Node, look: Look) -> None:
    before = look().keys()
    node.paths.config.write_text("[[template")
    found = {check.name: check for check in examine(Node(node.paths))}
    assert found.keys() == before | {"configuration"}
    assert [name for name, check in found.items() if check.ok == "no"] == ["configuration"]
    assert "is not valid TOML" in found["configuration"].found
    assert "v config check" in found["configuration"].remedy


def test_where_path_is_empty_each_missing_program_is_told(look: Look, host: FakeHost) -> None:
    before = look()
    for program in host.programs.iterdir():
        program.unlink()
    found = look()
    assert before.keys() - found.keys() == {"host programs"}
    assert {found[name].ok for name in ("PATH", "ssh", "cp", "find", "mcopy")} == {"no"}
    assert found["PATH"].remedy.startswith("export PATH=")
    assert "apt-get install coreutils" in found["cp"].remedy


@pytest.mark.parametrize(
    "error", [HostError("it failed", hint="mend it"), PermissionError(13, "Permission denied", "/x")]
)
@pytest.mark.parametrize(
    ("where", "name"),
    [
        ("doctor.find_nix", "nix"),
        ("doctor._folders", "folders"),
        ("doctor.check", "VMs"),
        ("host_checks.kvm_problem", "KVM"),
        ("host_checks.landlock_works", "landlock"),
        ("host_checks.file_system", "clones"),
        ("host_checks._programs", "host programs"),
    ],
)
def test_what_cannot_be_looked_at_is_one_line(
    where: str, name: str, error: Exception, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    before = look()
    monkeypatch.setattr(f"virshle.service.{where}", fail)
    found = look()
    assert found[name].ok in ("no", "limited")
    assert "it failed" in found[name].found or "Permission denied" in found[name].found
    lost = {"folders": {"state folder", "runtime folder"}, "host programs": {host_arch().qemu}}.get(name, set())
    assert before.keys() - found.keys() == lost


def test_of_a_vm_that_is_anothers_its_line_says_what_makes_it_ours(
    node: Node, look: Look, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put_vm(layout, make_vm())
    put_vm(layout, make_vm("db", 2))
    real = os.open

    def closed(path: str | Path, *more: int) -> int:
        if str(path).startswith(f"{folder}/vm"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *more)

    monkeypatch.setattr("virshle.store.read.os.open", closed)
    assert look()["VMs"].found.startswith("1 whole")
    broken, unknown = [check for check in examine(node) if check.name == "VM web"]
    assert f"{folder / 'vm.json'} belongs to the user with the number" in broken.found
    assert f"as root: chown --no-dereference --recursive {os.getuid()} {folder};" in broken.remedy
    assert "cannot find out if a VM runs" in unknown.found
    assert [row.state for row in show.rows(node, node.store.entries())] == ["stopped", "unknown"]


def test_folders_that_cannot_be_used_are_told_and_all_else_is_looked_at(
    look: Look, node: Node, tmp_path: Path, host: FakeHost
) -> None:
    (tmp_path / "file").write_text("")
    odd = Node(replace(node.paths, state=tmp_path / "file", run=tmp_path / ("x" * 100)))
    found = {check.name: check for check in examine(odd)}
    assert found["state folder"].found == f"{odd.layout.vms.parent} cannot be used: {tmp_path / 'file'} is not a folder"
    assert "VIRSHLE_STATE_DIR" in found["state folder"].remedy
    assert (found["sockets"].ok, "VIRSHLE_RUN_DIR" in found["sockets"].remedy) == ("no", True)
    assert found["host programs"].ok == "yes"


def test_a_user_whom_the_system_does_not_know_is_told(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    assert look()["user"].ok == "yes"

    def unknown(_: int) -> object:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert (look()["user"].ok, "useradd" in look()["user"].remedy) == ("no", True)
