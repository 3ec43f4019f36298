from __future__ import annotations

import os
from pathlib import Path

import pytest

from virshle.model.arch import ARCHES
from virshle.vmm.kvm import kvm_module, kvm_problem, kvm_vcpus


@pytest.mark.parametrize(
    ("arch", "device", "flags", "problem"),
    [
        ("x86_64", "ours", "fpu vmx sse", ""),
        ("x86_64", "ours", "fpu svm sse", ""),
        ("x86_64", "ours", "fpu vmx_not svmx", "the processor shows none of vmx, svm"),
        ("x86_64", "ours", "", "the processor shows none of vmx, svm"),
        ("x86_64", "missing", "vmx", "is not there"),
        ("x86_64", "of others", "vmx", "may not be opened by this user"),
        ("aarch64", "ours", "fp asimd", ""),
        ("aarch64", "missing", "fp", "is not there"),
    ],
)
def test_hardware_is_used_only_where_it_runs_guests(
    arch: str, device: str, flags: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kvm, cpuinfo = tmp_path / "kvm", tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\nvmx flags\t: vnmi\n\nprocessor\t: 1\nflags\t\t: {flags}\n")
    if device != "missing":
        kvm.write_text("")
    monkeypatch.setattr(os, "access", lambda path, mode: device == "ours")
    found = kvm_problem(ARCHES[arch], None, kvm, cpuinfo)
    assert problem in found
    assert bool(found) is bool(problem)


@pytest.mark.parametrize(("flags", "module"), [("fpu vmx sse", "kvm_intel"), ("fpu svm", "kvm_amd"), ("fpu vmxx", "")])
def test_the_module_is_that_of_the_processor(flags: str, module: str, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(f"model name : vmx svm\nflags\t\t: {flags}\n")
    assert kvm_module(tmp_path / "cpuinfo") == module


def test_a_kernel_that_cannot_be_asked_says_no_bound(tmp_path: Path) -> None:
    (tmp_path / "kvm").touch()
    assert kvm_vcpus(tmp_path / "kvm") is None
    assert kvm_vcpus(tmp_path / "nothing") is None
