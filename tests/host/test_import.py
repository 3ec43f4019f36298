"""Other systems' disk images, by the real qemu-img and cp."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.host.efi import efi_image
from tests.host.host import LONG, Host, V
from tests.host.test_bad_input import GPT
from virshle.disk import check_image
from virshle.errors import ConfigError

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="SKIPPED LOUDLY: qemu-img is not here")

MIB = 2**20
TEMPLATE = '[[template.vm]]\nname = "{0}"\nvram = "512MiB"\n[[template.vm.disk]]\nname = "os"\nimage = "{0}"\n'
NET = '[[template.vm.net]]\nname = "main"\ntype = "user"\n'


def raw_disk(path: Path, data: int = MIB, size: int = 64 * MIB) -> Path:
    """With an MBR, data and a hole."""
    with path.open("wb") as file:
        file.write(bytes(510) + b"\x55\xaa" + os.urandom(data))
        file.truncate(size)
    return path


def qcow2(path: Path, source: Path, *more: str) -> Path:
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *more, source, path], check=True)
    return path


def images(host: Host) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(host.v("image", "ls", "--format", "json").stdout)}


def nothing_half(host: Host) -> None:
    assert not [name for name in host.folders("image") if not name.startswith(".")]
    assert set(images(host)) == {"tiny", "nixos"}


@pytest.mark.parametrize("kind", ["raw", "qcow2", "compressed"])
def test_it_is_sparse_listed_and_named_by_a_template_without_more(bare: Host, kind: str) -> None:
    disk = raw_disk(bare.folder / "web.raw")
    file = disk
    if kind != "raw":
        file = qcow2(bare.folder / "web.qcow2", disk, *(["-c"] if kind == "compressed" else []))
    assert bare.v("image", "import", str(file)).stdout == "web\n"
    imported = bare.state / "image" / "web" / "disk.raw"
    assert imported.read_bytes() == disk.read_bytes()
    assert imported.stat().st_blocks * 512 < 4 * MIB
    row = images(bare)["web"]
    assert (row["built"], row["virtual"], row["source"], row["problem"]) == (True, 64 * MIB, str(file), None)
    bare.configure(TEMPLATE.format("web"))
    whole = disk.read_bytes()
    file.unlink()
    bare.v("create", "-t", "web", "one")
    (clone,) = bare.state.glob("vm/*/disk/os")
    assert clone.read_bytes() == whole
    assert bare.ls()[0]["image"] == "web"
    bare.check()


def test_it_stays_until_it_is_deleted(bare: Host) -> None:
    bare.v("image", "import", str(raw_disk(bare.folder / "x.raw")), "--name", "web")
    assert "no image to release" in bare.v("image", "gc").stderr
    bare.configure(TEMPLATE.format("web"))
    bare.v("create", "-t", "web", "one")
    assert "named by template web" in bare.v("image", "delete", "web", code=5).stderr
    bare.config.write_text("")
    assert "VMs were created from image 'web': one" in bare.v("image", "delete", "web", code=5).stderr
    assert "mv -T" in bare.v("image", "delete", "--force", "--dry-run", "web").stdout
    bare.v("image", "delete", "--force", "web")
    nothing_half(bare)
    assert [row["name"] for row in bare.ls()] == ["one"]
    assert "no image named 'web'" in bare.v("image", "delete", "web", code=4).stderr


@pytest.mark.heart
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the test's EFI image is for x86_64")
def test_an_imported_image_boots(host: Host, tiny: Path, tmp_path: Path) -> None:
    efi_image((tiny / "result").readlink(), tmp_path, tmp_path / "efi.raw")
    file = qcow2(tmp_path / "cloud.qcow2", tmp_path / "efi.raw", "-c")
    host.v("image", "import", str(file))
    host.configure(TEMPLATE.format("cloud") + NET)
    made = host.v("create", "-t", "cloud", "web", "--start", "--wait", "--timeout", "240")
    assert "ssh server to answer" in made.stderr, "it knows nothing of virshle"
    assert host.v("ssh", "web", "hostname").stdout == "web\n"
    host.v("stop", "web")


def _text(path: Path) -> None:
    path.write_text("not an image")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _no_table(path: Path) -> None:
    path.write_bytes(bytes(MIB))


def _no_table_qcow2(path: Path) -> None:
    _no_table(path.with_name("flat"))
    qcow2(path, path.with_name("flat"))


def _truncated(path: Path) -> None:
    path.write_bytes(bytes(510) + b"\x55\xaa" + GPT[512:] + bytes(MIB - len(GPT)))


def _with_backing(path: Path) -> None:
    base = qcow2(path.with_name("base"), raw_disk(path.with_name("flat")))
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", path], check=True)


def _with_data_file(path: Path) -> None:
    option = f"data_file={path.with_name('data')}"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", option, path, "1M"], check=True)


def _damaged(path: Path) -> None:
    qcow2(path, raw_disk(path.with_name("flat")))
    os.truncate(path, 2**17)


def _gzip(path: Path) -> None:
    path.write_bytes(b"\x1f\x8b" + bytes(1022))


@pytest.mark.parametrize(
    ("make", "code", "part"),
    [
        (_text, 3, "truncated"),
        (_fifo, 3, "not a regular file"),
        (_no_table, 3, "no partition table"),
        (_no_table_qcow2, 3, "no partition table"),
        (_truncated, 3, "partition table needs"),
        (_with_backing, 3, "in another file"),
        (_with_data_file, 3, "in another file"),
        (_damaged, 3, "is damaged"),
        (_gzip, 3, "gunzip"),
        (lambda path: path.symlink_to("/dev/zero"), 3, "not a regular file"),
        (lambda path: path.mkdir(), 3, "not a regular file"),
        (lambda path: None, 4, "there is no disk image"),
    ],
)
def test_what_is_no_whole_image_is_refused(bare: Host, make: Callable[[Path], None], code: int, part: str) -> None:
    make(bare.folder / "disk")
    assert part in bare.v("image", "import", str(bare.folder / "disk"), code=code).stderr
    nothing_half(bare)


def _packed(*argv: str) -> Callable[[Path, Path], None]:
    def make(raw: Path, path: Path) -> None:
        with path.open("wb") as out:
            subprocess.run([*argv, str(raw)], check=True, stdout=out)

    return make


def _imaged(form: str, *more: str) -> Callable[[Path, Path], None]:
    def make(raw: Path, path: Path) -> None:
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", form, *more, raw, path], check=True)

    return make


def _tar(raw: Path, path: Path) -> None:
    raw.rename(raw.with_name("inner"))
    subprocess.run(["tar", "-C", raw.parent, "--remove-files", "-cf", path, "inner"], check=True)


def _zip(raw: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.write(raw, "inner")


FORMATS = {
    "gzip": _packed("gzip", "-c"),
    "bzip2": _packed("bzip2", "-c"),
    "xz": _packed("xz", "-c"),
    "lzma": _packed("lzma", "-c"),
    "zstd": _packed("zstd", "-qc"),
    "lz4": _packed("lz4", "-qc"),
    "tar": _tar,
    "zip": _zip,
    "qcow2": _imaged("qcow2"),
    "vmdk": _imaged("vmdk"),
    "vdi": _imaged("vdi"),
    "vhdx": _imaged("vhdx"),
    "vhd": _imaged("vpc"),
    "vhd, fixed": _imaged("vpc", "-o", "subformat=fixed"),
    "qed": _imaged("qed"),
    "parallels": _imaged("parallels"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_another_format_is_known_and_the_line_that_is_told_makes_a_raw_image_of_it(name: str, tmp_path: Path) -> None:
    raw, path = raw_disk(tmp_path / "disk", size=2 * MIB), tmp_path / "my disk"
    content = raw.read_bytes()
    try:
        FORMATS[name](raw, path)
    except FileNotFoundError as error:
        pytest.skip(f"SKIPPED LOUDLY: no {error.filename} to make one with")
    with pytest.raises(ConfigError, match=f"is {name.partition(',')[0]}, and") as caught:
        check_image(path)
    line = caught.value.hint.partition(": ")[2]
    subprocess.run(["sh", "-c", line], check=True, cwd=tmp_path, stdout=subprocess.DEVNULL)
    made = next(one for one in (tmp_path / "my disk.raw", tmp_path / "inner") if one.exists())
    assert check_image(made) >= len(content)
    # Some round its size up.
    assert made.read_bytes()[: len(content)] == content


def test_a_disk_that_sfdisk_made_is_whole_to_its_last_sector(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(64 * MIB)
    env = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    subprocess.run(["sfdisk", "-q", str(path)], input="label: gpt\n,", text=True, check=True, env=env)
    assert check_image(path) == 64 * MIB
    os.truncate(path, 64 * MIB - 512)
    with pytest.raises(ConfigError, match="is truncated"):
        check_image(path)


@pytest.mark.parametrize(
    ("name", "code", "part"), [("tiny", 5, "already"), ("a/b", 2, "not a plain name"), (".x", 2, "not a plain name")]
)
def test_a_name_that_cannot_be_is_refused(bare: Host, name: str, code: int, part: str) -> None:
    disk = raw_disk(bare.folder / "x.raw")
    assert part in bare.v("image", "import", str(disk), "--name", name, code=code).stderr
    bare.v("image", "import", str(disk))
    assert "v image delete x" in bare.v("image", "import", str(disk), code=5).stderr
    assert images(bare)["x"]["built"]


def holders(folder: Path) -> list[int]:
    """Processes that have it open."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if link.readlink() == folder:
                found.add(int(link.parts[2]))
    return sorted(found)


def wait_gone(pid: int) -> None:
    deadline = time.monotonic() + LONG
    while Path(f"/proc/{pid}/fd/0").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_file_name_that_is_not_utf_8_needs_a_name_and_is_shown(bare: Host) -> None:
    disk = raw_disk(bare.folder / os.fsdecode(b"n\xff.raw"))
    assert "is not a plain name" in bare.v("image", "import", str(disk), code=2).stderr
    bare.v("image", "import", str(disk), "--name", "x")
    assert images(bare)["x"]["source"].endswith(r"n\xff.raw")


@pytest.mark.parametrize("number", ["INT", "KILL"])
def test_an_interrupted_import_leaves_nothing_half(bare: Host, number: str) -> None:
    file = qcow2(bare.folder / "x.qcow2", raw_disk(bare.folder / "x.raw"))
    # A qemu-img that takes its time once it has begun to write.
    slow = bare.folder / "bin" / "qemu-img"
    slow.parent.mkdir()
    real = shutil.which("qemu-img")
    slow.write_text(
        f'#!/bin/sh\n[ "$1" = convert ] || exec {real} "$@"\n'
        'for target; do :; done\necho half >"$target"\nexec sleep 600\n'
    )
    slow.chmod(0o755)
    env = bare.environment() | {"PATH": f"{slow.parent}:{os.environ['PATH']}"}
    importing = subprocess.Popen([str(V), "image", "import", str(file)], env=env, stderr=subprocess.PIPE)
    deadline = time.monotonic() + LONG
    while not (bare.state / "image" / ".new-x" / "disk.raw").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    importing.send_signal(getattr(signal, f"SIG{number}"))
    importing.communicate(timeout=60)
    assert importing.returncode == (130 if number == "INT" else -9)
    nothing_half(bare)
    if number == "INT":
        assert bare.folders("image") == set()
    else:
        assert bare.folders("image") == {".new-x"}
        # What was left behind still works on it, and holds its lock.
        bare.v("image", "gc")
        assert bare.folders("image") == {".new-x"}
        (pid,) = holders(bare.state / "image" / ".new-x")
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)
    bare.v("image", "import", str(file))
    assert bare.folders("image") == {"x"}


def test_a_full_disk_leaves_nothing_half(bare: Host, small_disk: Callable[[str], Path]) -> None:
    small_disk("40m")
    disk = raw_disk(bare.folder / "x.raw", data=48 * MIB)
    for file in (disk, qcow2(bare.folder / "x.qcow2", disk)):
        assert "not enough space" in bare.v("image", "import", str(file), code=6).stderr
        nothing_half(bare)
    folder = bare.state
    smaller = raw_disk(bare.folder / "y.raw", data=8 * MIB)
    for file in (smaller, qcow2(bare.folder / "y.qcow2", smaller)):
        _, steps = bare.driven("none", "before", 0, "image", "import", str(file), code=0)
        bare.v("image", "delete", "y")
        copying = next(number for number, why in enumerate(steps, 1) if why.startswith(("clone", "convert")))
        done, _ = bare.driven(f"fill:{folder}", "before", copying, "image", "import", str(file), code=6)
        assert "No space left" in done.stderr
        assert "undone: " in done.stderr
        nothing_half(bare)
        (folder / "filler").unlink()


def test_of_two_imports_of_one_name_one_is_told_that_it_is_taken(bare: Host) -> None:
    disk = raw_disk(bare.folder / "x.raw", data=16 * MIB)
    argv = [str(V), "image", "import", str(disk)]
    both = [subprocess.Popen(argv, env=bare.environment(), stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=LONG)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 5], said
    assert bare.folders("image") == {"x"}
    assert (bare.state / "image" / "x" / "disk.raw").read_bytes() == disk.read_bytes()
