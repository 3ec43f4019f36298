"""The host goes down while VMs run. By its name it is begun early, as it takes long."""

from __future__ import annotations

from tests.box.box import Box


def test_a_host_that_goes_down(box: Box) -> None:
    """Rebooted: guests are powered off. Its power cut: they show as stopped by the host. They start again, whole."""
    vmms = ["qemu", *(["cloud-hypervisor"] if box.has_cloud_hypervisor() else [])]
    for vmm in vmms:
        box.configure(vmm)
        box.v("create", "-t", "alone", vmm)
    box.v("start", "--all", "--wait")
    for vmm in vmms:
        box.v("ssh", vmm, "echo kept >/root/note; sync")
    box.reboot()
    for vmm in vmms:
        assert box.state(vmm) == "stopped"
        assert "Going down for poweroff" in box.v("logs", vmm).stdout
    box.v("start", "--all", "--wait")
    for vmm in vmms:
        assert box.v("ssh", vmm, "cat /root/note").stdout == "kept\n"
    box.power_cut()
    for row in box.ls():
        assert (row["state"], row["problem"]) == ("stopped", "the host went down while it ran")
    box.v("start", "--all", "--wait")
    for vmm in vmms:
        assert box.v("ssh", vmm, "cat /root/note").stdout == "kept\n"
