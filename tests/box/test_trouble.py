"""Trouble on a host with KVM and systemd: told, bounded, and nothing lost."""

from __future__ import annotations

import pytest

from tests.box.box import ON_CLOUD_HYPERVISOR, Box


@ON_CLOUD_HYPERVISOR
def test_no_cloud_hypervisor(box: Box, hypervisor: str) -> None:
    box.configure(hypervisor)
    box.run("mkdir -p /root/away && mv /usr/local/bin/cloud-hypervisor /root/away/")
    try:
        said = box.v("create", "-t", "alone", "web", code=3).stderr
        assert "cloud-hypervisor is not on this machine" in said
        assert "hint: install it" in said
        assert box.ls() == []
    finally:
        box.run("mv /root/away/cloud-hypervisor /usr/local/bin/")


@pytest.mark.parametrize(
    ("version", "says"),
    [("cloud-hypervisor v45.0", "v48.0 is the oldest"), ("what?", "does not say its version")],
)
def test_a_cloud_hypervisor_that_is_too_old_or_something_else(box: Box, version: str, says: str) -> None:
    box.configure("cloud-hypervisor")
    program = "/usr/local/sbin/cloud-hypervisor"
    box.write(program, f"#!/bin/sh\necho '{version}'\n", 0o755)
    try:
        assert says in box.v("create", "-t", "alone", "web", code=3).stderr
        assert "uses QEMU" in box.v("doctor").stdout
    finally:
        box.run(["rm", program])


@ON_CLOUD_HYPERVISOR
def test_no_firmware(box: Box, hypervisor: str) -> None:
    box.run("truncate -s 64M /root/efi.raw")
    box.configure(hypervisor, PATH_TEMPLATE)
    box.v("create", "-t", "efi", "web")
    said = box.v("start", "web", code=3).stderr
    assert "no firmware for cloud-hypervisor" in said
    assert "firmware =" in said


PATH_TEMPLATE = """
[[template.vm]]
name = "efi"
hypervisor = "cloud-hypervisor"
[[template.vm.disk]]
name = "os"
path = "/root/efi.raw"
"""
