from __future__ import annotations

import pytest

from tests.unit.fakehost import NO_KVM, QEMU, FakeHost
from tests.unit.support import make_vm
from virshle.errors import ConfigError
from virshle.vmm.choose import check_hypervisor, choose

FIRMWARE = {"kind": "firmware", "variables": "boot/efivars.fd", "firmware": "/nowhere/CLOUDHV.fd"}


def _break(host: FakeHost, how: str) -> None:
    if how == "no kvm":
        host.kvm = NO_KVM
    elif how == "too old":
        host.have_cloud_hypervisor("v40.0")
    elif how == "no passt":
        (host.programs / "passt").unlink()
    elif how == "not there":
        (host.programs / "cloud-hypervisor").unlink()
    else:
        assert how == "does not run"
        del host.answers["cloud-hypervisor"]

        def fail(argv: tuple[str, ...]) -> None:
            if argv[0].endswith("/cloud-hypervisor"):
                raise OSError(8, "Exec format error")

        host.before = fail


BROKEN = {
    "no kvm": NO_KVM,
    "too old": "v48.0 is the oldest",
    "no passt": "passt is not on this machine",
    "not there": "cloud-hypervisor is not on this machine",
    "does not run": "Exec format error",
}


def test_auto_takes_cloud_hypervisor_where_it_can(host: FakeHost) -> None:
    host.have_cloud_hypervisor()
    choice = choose(make_vm(), None)
    assert (choice.hypervisor, choice.instead) == ("cloud-hypervisor", "")
    check_hypervisor("auto", None)


@pytest.mark.parametrize(("how", "why"), BROKEN.items())
def test_auto_takes_qemu_elsewhere_and_says_why(how: str, why: str, host: FakeHost) -> None:
    host.have_cloud_hypervisor()
    _break(host, how)
    choice = choose(make_vm(), None)
    assert choice.hypervisor == "qemu"
    assert why in choice.instead
    check_hypervisor("auto", None)


def test_a_vm_that_it_cannot_boot_is_qemus(host: FakeHost, firmware: None) -> None:
    host.have_cloud_hypervisor()
    choice = choose(make_vm(boot=FIRMWARE), None)
    assert choice.hypervisor == "qemu"
    assert "/nowhere/CLOUDHV.fd" in choice.instead


@pytest.mark.parametrize("how", ["no kvm", "too old", "no passt", "not there"])
def test_one_that_is_asked_for_is_replaced_by_no_other(how: str, host: FakeHost) -> None:
    host.have_cloud_hypervisor()
    _break(host, how)
    with pytest.raises(ConfigError) as caught:
        choose(make_vm(hypervisor="cloud-hypervisor"), None)
    assert BROKEN[how] in caught.value.message
    assert caught.value.exit_code == 3
    if how == "no passt":  # a VM without a net has no need of it
        check_hypervisor("cloud-hypervisor", None)
        return
    with pytest.raises(ConfigError):
        check_hypervisor("cloud-hypervisor", None)


def test_qemu_is_taken_where_it_is_asked_for(host: FakeHost) -> None:
    host.have_cloud_hypervisor()
    choice = choose(make_vm(hypervisor="qemu"), None)
    assert (choice.hypervisor, choice.instead, choice.accelerator) == ("qemu", "", "kvm")
    (host.programs / QEMU).unlink()
    with pytest.raises(ConfigError, match="is not on this machine"):
        choose(make_vm(hypervisor="qemu"), None)
    with pytest.raises(ConfigError):
        check_hypervisor("qemu", None)
    check_hypervisor("auto", None)  # which has the other


def test_without_any_it_is_told_of_both(host: FakeHost) -> None:
    (host.programs / QEMU).unlink()
    for act in (lambda: check_hypervisor("auto", None), lambda: choose(make_vm(), None)):
        with pytest.raises(ConfigError, match=f"{QEMU} is not on this machine") as caught:
            act()
        assert caught.value.details == [
            "cloud-hypervisor cannot run it either: cloud-hypervisor is not on this machine"
        ]
