"""nixos-module/make-image.sh, run on a small closure in the real store: what NixOS guests boot from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.host.host import Host
from tests.host.test_guest_module import NIX, QUIET
from tests.host.test_image import wait_for

MAKE = Path(__file__).parents[2] / "nixos-module" / "make-image.sh"
UNBUILT = ("--option", "sandbox", "false", "--option", "substituters", "")
MIB = 2**20

pytestmark = [
    pytest.mark.nix,
    *(
        pytest.mark.skipif(shutil.which(name) is None, reason=f"SKIPPED LOUDLY: no {name} to make an image with")
        for name in ("fakeroot", "sqlite3", "mcopy")
    ),
]


def said(*words: str | Path, text: str = "", **env: str) -> str:
    environment = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"} | env
    argv = [str(word) for word in words]
    done = subprocess.run(argv, env=environment, input=text, text=True, capture_output=True)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class System:
    toplevel: str
    systemd: str
    closure: Path

    def image(self, folder: Path, boot: str) -> Path:
        """As Nix's build users make it, who are nobody."""
        env = {"toplevel": self.toplevel, "closure": str(self.closure), "boot": boot, "out": str(folder / "out")}
        env |= {"espSize": "64", "efiArch": "x64", "systemd": self.systemd, "loader": "0", "HOME": str(folder)}
        nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups") if os.geteuid() == 0 else ()
        said(*nobody, "env", "-C", folder, "bash", "-s", text=MAKE.read_text(), **env)
        return folder / "out"


def system_of(folder: Path, kernel: Path, initrd: Path, busybox: Path) -> System:
    """Built by the real Nix, and what nixpkgs' closureInfo would say of it."""
    words = [word for name, path in (("kernel", kernel), ("initrd", initrd), ("busybox", busybox))
             for word in ("--argstr", name, str(path))]  # fmt: skip
    build = ["nix-build", *QUIET, *UNBUILT, str(NIX / "system.nix"), *words]
    paths = {name: said(*build, "-A", name, "-o", folder / name).strip() for name in ("toplevel", "systemd")}
    closure = folder / "closure"
    closure.mkdir()
    members = said("nix-store", "-qR", paths["toplevel"]).split()
    (closure / "store-paths").write_text("\n".join(members) + "\n")
    (closure / "registration").write_text(said("nix-store", "--dump-db", *members))
    return System(paths["toplevel"], paths["systemd"], closure)


def folder_for_all() -> Iterator[Path]:
    """pytest's own let nobody pass."""
    folder = Path(tempfile.mkdtemp(prefix="vt-", dir="/tmp"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    for folder in folder_for_all():
        for name in ("kernel", "initrd", "busybox"):
            (folder / name).write_bytes(name.encode() * 10000)
        yield system_of(folder, folder / "kernel", folder / "initrd", folder / "busybox")


@pytest.fixture
def work() -> Iterator[Path]:
    yield from folder_for_all()


def test_for_kernel_boot_it_is_one_small_file_system_and_what_boots_it(system: System, work: Path) -> None:
    image = system.image(work, "kernel")
    assert {path.name for path in image.iterdir()} == {"disk.raw", "kernel", "initrd", "cmdline"}
    assert (image / "kernel").read_bytes() == b"kernel" * 10000
    # Not this system's own init: the guest may have moved on to another.
    cmdline = (image / "cmdline").read_text()
    assert cmdline == "init=/nix/var/nix/profiles/system/init root=/dev/vda rw console=ttyS0\n"
    # The journal is 4 MiB or 16, by the size mke2fs begins with.
    assert (image / "disk.raw").stat().st_size <= 48 * MIB
    said("e2fsck", "-nf", image / "disk.raw")


def test_all_in_it_is_roots_and_of_no_time(system: System, work: Path) -> None:
    disk = system.image(work, "kernel") / "disk.raw"
    for folder in ("/", "/nix/store", system.toplevel, "/nix/var/nix/db"):
        listing = said("debugfs", "-R", f'ls -p "{folder}"', disk)
        # /inode/mode/uid/gid/name/size/
        entries = [line.split("/") for line in listing.splitlines() if line.startswith("/")]
        assert entries
        assert {(entry[3], entry[4]) for entry in entries} == {("0", "0")}, folder
    assert "mtime: 0x00000001" in said("debugfs", "-R", "stat /etc/NIXOS", disk)


def test_nix_inside_knows_its_store_and_the_first_generation(system: System, work: Path) -> None:
    disk = system.image(work, "kernel") / "disk.raw"
    inside = work / "inside"
    inside.mkdir()
    said("debugfs", "-R", f"rdump /nix {inside}", disk)
    env = {"NIX_REMOTE": f"local?root={inside}"}
    members = (system.closure / "store-paths").read_text().split()
    assert said("nix-store", "-qR", system.toplevel, **env).split() == members
    said("nix-store", "--verify", "--check-contents", **env)
    profiles = inside / "nix/var/nix/profiles"
    assert (profiles / "system").readlink() == Path("system-1-link")
    assert str((profiles / "system-1-link").readlink()) == system.toplevel
    # Neither is garbage: the system, and the modules of the kernel that the host goes on to boot.
    kept = said("nix-store", "--gc", "--print-live", **env).split()
    assert set(members) <= set(kept)


def test_for_efi_there_is_a_boot_loader_and_its_first_entry(system: System, work: Path) -> None:
    image = system.image(work, "efi")
    assert {path.name for path in image.iterdir()} == {"disk.raw"}
    table = json.loads(said("sfdisk", "-J", image / "disk.raw"))["partitiontable"]
    esp, root = table["partitions"]
    assert (esp["name"], esp["type"], esp["size"]) == ("ESP", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", 64 * 2048)
    assert root["name"] == "nixos"
    said("sfdisk", "--verify", image / "disk.raw")

    at = f"{image / 'disk.raw'}@@{esp['start'] * 512}"
    files = said("mdir", "-/", "-b", "-i", at, "::").split()
    assert {"::/EFI/BOOT/BOOTX64.EFI", "::/EFI/systemd/systemd-bootx64.efi", "::/loader/loader.conf"} <= set(files)
    entry = dict(
        line.split(" ", 1) for line in said("mtype", "-i", at, "::loader/entries/nixos-generation-1.conf").splitlines()
    )
    assert entry["options"] == f"init={system.toplevel}/init root=/dev/vda rw console=ttyS0"
    for part in ("linux", "initrd"):
        assert f"::{entry[part]}" in files
        # As NixOS's installer names it, and so cleans it one day: STOREPATH-FILE.efi
        assert entry[part].startswith("/EFI/nixos/")

    with (image / "disk.raw").open("rb") as disk, (work / "image").open("wb") as copy:
        disk.seek(root["start"] * 512)
        copy.write(disk.read(root["size"] * 512))
    said("e2fsck", "-nf", work / "image")


def test_a_partition_that_is_too_small_fails_the_build(system: System, work: Path) -> None:
    big = System(system.toplevel, str(work / "systemd"), system.closure)
    loader = work / "systemd/lib/systemd/boot/efi/systemd-bootx64.efi"
    loader.parent.mkdir(parents=True)
    loader.write_bytes(b"\1" * 40 * MIB)
    with pytest.raises(AssertionError, match="Disk full"):
        big.image(work, "efi")


def test_it_is_the_image_of_a_vm_and_grows_with_its_disk(host: Host, tiny: Path, work: Path) -> None:
    """Booted for real: tiny's kernel and initrd find the system that the image's profile names."""
    built = (tiny / "result").resolve()
    system = system_of(work, built / "kernel", built / "initrd", tiny / "parts/busybox/bin/busybox")
    image = system.image(work, "kernel")
    file = host.folder / "image.nix"
    file.write_text(
        '{ folder }: derivation { name = "x"; system = builtins.currentSystem; builder = "/bin/sh"; '
        'folder = builtins.path { name = "folder"; path = /. + folder; }; '
        'args = [ "-ec" "/bin/cp -r $folder $out" ]; }'
    )
    host.configure(
        f'[[image]]\nname = "own"\nfile = "{file}"\nargs = {{ folder = "{image}" }}\n'
        '[[template.vm]]\nname = "own"\nvram = "256MiB"\n[[template.vm.disk]]\nname = "os"\nimage = "own"\n'
        'size = "1GiB"\n'
    )
    host.env["NIX_CONFIG"] = "sandbox = false\nsubstituters ="
    host.v("create", "-t", "own", "web", "--start")
    wait_for(lambda: host.ls()[0]["state"] == "stopped")
    console = host.v("logs", "web").stdout
    assert f"booted {system.toplevel}" in console
    assert "modules 6.1" in console
    (disk,) = host.state.glob("vm/*/disk/os")
    said("e2fsck", "-fp", disk)
    said("resize2fs", disk)
    assert f"Block count:              {2**30 // 4096}" in said("dumpe2fs", "-h", disk)
