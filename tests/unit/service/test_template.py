"""What keeps a template from being used is the same for all who ask: the list, the check and `create`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import V
from tests.unit.cli.conftest import v as v
from tests.unit.fakehost import FakeHost
from virshle.errors import ConfigError
from virshle.store import Layout
from virshle.store.layout import image_link
from virshle.vmm import cloud_hypervisor, qemu
from virshle.vmm.memory import check_memory

_VM = '[[template.vm]]\nname = "x"\n'
_DISK = '[[template.vm.disk]]\nname = "os"\n'
_GOOD = _DISK + 'path = "IMAGE"\n'
_IMAGE = '[[image]]\nname = "i"\n'
_OF_IMAGE = _VM + _DISK + 'image = "i"\n'

_PROBLEMS = {
    "a disk that is not there": (_VM + _DISK + 'path = "no.raw"\n', "disk 'os': there is no disk image "),
    "a second disk": (_VM + _GOOD + '[[template.vm.disk]]\nname = "b"\npath = "/no"\n', "disk 'b': there is no disk"),
    "an image that is not there": (_OF_IMAGE + _IMAGE + 'path = "no.raw"\n', "disk 'os': there is no disk image "),
    "no Nix file": (_OF_IMAGE + _IMAGE + 'file = "no.nix"\n', "disk 'os': image 'i': there is no Nix file "),
    "no flake": (_OF_IMAGE + _IMAGE + 'nix = "./no#x"\n', "disk 'os': image 'i': there is no flake "),
    "a path that is none": (_OF_IMAGE + _IMAGE + 'nix = "path:/no#x"\n', "disk 'os': image 'i': there is no flake /no"),
    "no attribute": (_OF_IMAGE + _IMAGE + 'nix = "nixpkgs"\n', "names no attribute of a flake"),
    "no firmware": (_VM + 'firmware = "no.fd"\n' + _GOOD, "there is no firmware "),
    "a disk that is too small": (_VM + _GOOD + 'size = "512B"\n', "disk 'os': size 512B is smaller than its image"),
    "smaller than its image": (
        _OF_IMAGE + 'size = "512B"\n' + _IMAGE + 'path = "IMAGE"\n',
        "disk 'os': size 512B is smaller than its image, which has 4KiB",
    ),
    "a net of another kind": (_VM + _GOOD + '[[template.vm.net]]\nname = "n"\ntype = "tap"\n', "is of type tap"),
    "too many processors": (_VM + "vcpu = 300\n" + _GOOD, "qemu gives a VM at most 255 processors on this host"),
    "too much memory": (_VM + 'vram = "1000TiB"\n' + _GOOD, "the VM needs 1000TiB of memory, and this host has "),
}


@pytest.fixture(autouse=True)
def there(layout: Layout, host: FakeHost, firmware: None) -> None:
    pass


def _configure(layout: Layout, text: str) -> Path:
    image = layout.paths.config.with_name("image.raw")
    image.write_bytes(b"\1" * 4096)
    layout.paths.config.write_text(text.replace("IMAGE", str(image)))
    return image


@pytest.mark.parametrize(("text", "problem"), _PROBLEMS.values(), ids=_PROBLEMS.keys())
def test_create_the_list_and_the_check_say_the_same(text: str, problem: str, layout: Layout, v: V) -> None:
    _configure(layout, text)
    created = v("create", "-t", "x", "web")
    assert created.code in (3, 4)
    line = next(line for line in created.err.splitlines() if line.startswith("error: "))
    assert problem in line
    message = line.removeprefix("error: ")
    checked = v("config", "check")
    assert (checked.code, checked.out) == (3, "")
    assert f"  {message}\n" in checked.err
    listed = v("template", "ls", "-c", "name,problem").out.splitlines()[-1]
    assert listed.split(maxsplit=1) == ["x", message.removeprefix("template 'x'").lstrip(":, ")]


def test_what_can_be_used_is_right(layout: Layout, v: V) -> None:
    _configure(layout, _VM + _GOOD + 'size = "1MiB"\n')
    assert v("config", "check").code == 0
    assert v("create", "-t", "x", "web").code == 0


def test_every_problem_is_told_at_once_and_each_with_its_remedy(layout: Layout, v: V) -> None:
    _configure(layout, _VM + 'vram = "1000TiB"\nvcpu = 300\n' + _DISK + 'path = "/no"\n' + _IMAGE + 'path = "/none"\n')
    ran = v("config", "check")
    assert "has 4 problems" in ran.err
    for part in ("1000TiB", "255 processors", "disk image /no\n", "disk image /none\n", "    make vram smaller\n"):
        assert part in ran.err


def test_a_disk_smaller_than_a_built_image_is_told_before_it_is_used(layout: Layout, v: V, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store/disk.raw").write_bytes(bytes(8192))
    layout.image("i").mkdir()
    image_link(layout.image("i")).symlink_to(tmp_path / "store")
    (tmp_path / "i.nix").touch()
    _configure(layout, _OF_IMAGE + 'size = "4KiB"\n' + _IMAGE + f'file = "{tmp_path / "i.nix"}"\n')
    assert "size 4KiB is smaller than its image, which has 8KiB" in v("config", "check").err


def test_an_image_that_is_not_built_may_have_any_size(layout: Layout, v: V, tmp_path: Path) -> None:
    (tmp_path / "i.nix").touch()
    _configure(layout, _OF_IMAGE + 'size = "4KiB"\n' + _IMAGE + f'file = "{tmp_path / "i.nix"}"\n')
    assert v("config", "check").code == 0


def test_more_processors_are_given_by_who_has_more(
    layout: Layout, v: V, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.have_cloud_hypervisor()
    _configure(layout, _VM + "vcpu = 300\n" + _GOOD)
    monkeypatch.setattr(cloud_hypervisor, "kvm_vcpus", lambda: 1024)
    assert v("config", "check").code == 0
    monkeypatch.setattr(cloud_hypervisor, "kvm_vcpus", lambda: 288)
    monkeypatch.setattr(qemu, "kvm_vcpus", lambda: 288)
    ran = v("config", "check")
    assert "qemu gives a VM at most 288" in ran.err
    assert "cloud-hypervisor cannot run it either: cloud-hypervisor gives a VM at most 288" in ran.err


@pytest.mark.parametrize(("mode", "wanted", "refused"), [(0, 3, False), (0, 4, True), (2, 4, True), (1, 9, False)])
def test_memory_is_refused_as_the_kernel_would(mode: int, wanted: int, refused: bool, tmp_path: Path) -> None:
    (tmp_path / "sys/vm").mkdir(parents=True)
    (tmp_path / "sys/vm/overcommit_memory").write_text(f"{mode}\n")
    (tmp_path / "meminfo").write_text("MemTotal:        2097152 kB\nMemFree: 1 kB\nSwapTotal:       1048576 kB\n")
    if refused:
        with pytest.raises(ConfigError, match=r"this host has 3GiB with its swap"):
            check_memory(wanted << 30, tmp_path)
    else:
        check_memory(wanted << 30, tmp_path)
