"""Clear error, right exit code, nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.host.host import Host, V
from tests.host.test_kill import one_image
from virshle.model.arch import host_arch
from virshle.vmm.qemu import board_vcpus

GPT = bytes(512) + b"EFI PART" + bytes(24) + (2**30).to_bytes(8, "little")
"""The beginning of a disk whose partition table says that its last sector is far behind its end."""
PLAIN = '[[template.vm]]\nname = "plain"\nvram = "64MiB"\n[[template.vm.disk]]\nname = "os"\n'


def refused(host: Host, code: int, *words: str) -> str:
    """What is said; and nothing was changed."""
    before = host.folders(), host.folders("name"), host.folders("id")
    said = host.v(*words, code=code).stderr
    assert said.startswith(("error: ", "warning: ")), said
    assert "Traceback" not in said
    assert (host.folders(), host.folders("name"), host.folders("id")) == before
    return said


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("{v} template ls | true", 141),
        ("{v} --help | true", 141),
        ("{v} template ls >/dev/full", 6),
        ("{v} template ls >&-", 0),
        ("{v} info nobody 2>/dev/full", 4),
        ("{v} info nobody 2>&1 >/dev/null | true", 4),
        ("{v} nonsense 2>/dev/full", 2),
    ],
)
def test_who_does_not_listen_gets_the_right_code_too(bare: Host, line: str, code: int) -> None:
    script = f"{line.format(v=V)}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], env=bare.environment(), capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (("create", "-t", "tyni"), 4, ("'tyni'", "did you mean tiny?")),
        (("create", "-t", "plain", "WEB"), 2, ("host name",)),
        (("create", "-t", "plain", "../x"), 2, ("host name",)),
        (("create", "-t", "plain", "12"), 2, ("has only digits",)),
        (("create", "-t", "plain", ""), 2, ("empty",)),
        (("create", "-t", "plain", "-n", "0"), 2, ("0",)),
        (("image", "build", "tyni"), 4, ("did you mean tiny?",)),
        (("start", "wbe"), 4, ("did you mean web?",)),
        (("start",), 2, ("name at least one",)),
        (("stop", "web", "--all"), 2, ("not both",)),
        (("ls", "--state", "sleeping"), 2, ("running",)),
        (("ls", "-c", "nmae"), 2, ("did you mean name",)),
        (("create", "-t", "plain", "web"), 5, ("already", "v delete web")),
        (("ssh", "web"), 5, ("stopped", "v start web")),
        (("strat", "web"), 2, ("start",)),
        (("create", "-t", "plain", "x", "-u", "/nowhere.toml"), 4, ("/nowhere.toml",)),
    ],
)
def test_refused(bare: Host, words: tuple[str, ...], code: int, parts: tuple[str, ...]) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    said = refused(bare, code, *words)
    for part in parts:
        assert part in said


@pytest.mark.parametrize(
    ("content", "code", "part"),
    [
        (None, 4, "there is no disk image"),
        (b"", 3, "truncated"),
        (b"x" * 1000, 3, "truncated"),
        (b"<html>" + b"x" * 1000, 3, "is a text"),
        (b"QFI\xfb" + bytes(2**20), 3, "qcow2"),
        (
            bytes(512) + b"EFI PART" + bytes(24) + (2**30).to_bytes(8, "little") + bytes(2**20 - 552),
            3,
            "partition table",
        ),
    ],
)
def test_image_that_is_none(bare: Host, content: bytes | None, code: int, part: str) -> None:
    path = bare.folder / "image.raw"
    if content is not None:
        path.write_bytes(content)
    bare.configure(f'{PLAIN}path = "{path}"\n')
    assert part in refused(bare, code, "create", "-t", "plain")


def test_image_that_is_no_file(bare: Host) -> None:
    os.mkfifo(bare.folder / "fifo")
    for path in (bare.folder / "fifo", Path("/dev/zero"), bare.folder):
        bare.configure(f'{PLAIN}path = "{path}"\n')
        assert "no regular file" in refused(bare, 3, "create", "-t", "plain")


def test_size_smaller_than_the_image(bare: Host) -> None:
    one_image(bare)
    bare.configure(bare.config.read_text().replace('name = "os"', 'name = "os"\nsize = "1MiB"'))
    assert "smaller than its image" in refused(bare, 3, "create", "-t", "plain")


def test_configuration(bare: Host) -> None:
    bare.configure('[[template.vm]\nname = "x"\n')
    assert "line 1" in refused(bare, 3, "config", "check")
    bare.configure('[[template.vm]]\nname = "x"\nvpcu = 1\nvram = 5\ndisk = "y"\n')
    said = refused(bare, 3, "create", "-t", "x")
    assert all(part in said for part in ("vpcu", "did you mean vcpu", "vram", "disk", str(bare.config)))


@pytest.mark.parametrize("kind", ["tap", "macvtap", "vhost"])
def test_net_that_cannot_be_made(bare: Host, kind: str) -> None:
    one_image(bare)
    bare.configure(bare.config.read_text().replace('type = "user"', f"[template.vm.net.type.{kind}]"))
    assert kind in refused(bare, 3, "config", "check")
    assert kind in refused(bare, 3, "create", "-t", "plain")


def test_two_creates_of_one_name(bare: Host) -> None:
    one_image(bare)
    argv = [sys.executable, "-m", "virshle", "create", "-t", "plain", "web"]
    several = [
        subprocess.Popen(argv, env=bare.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)
    ]
    codes = []
    for process in several:
        process.communicate(timeout=120)
        codes.append(process.returncode)
    assert sorted(codes) == [0, 5, 5, 5]
    assert [row["name"] for row in bare.ls()] == ["web"]
    bare.check()


def test_disk_full_is_seen_before(bare: Host, small_disk: Callable[[str], Path]) -> None:
    one_image(bare)
    small_disk("20m")
    said = refused(bare, 6, "create", "-t", "plain", "-n", "40")
    assert "not enough space" in said
    assert bare.ls() == []


def test_disk_full_halfway(bare: Host, small_disk: Callable[[str], Path]) -> None:
    one_image(bare)
    folder = small_disk("40m")
    bare.v("create", "-t", "plain", "first")
    _, steps = bare.driven("none", "before", 0, "create", "-t", "plain", "web", "-n", "2", code=0)
    bare.v("delete", "web-1", "web-2", "--yes")
    second = [number for number, why in enumerate(steps, 1) if why == "clone the image"][1]
    done, _ = bare.driven(f"fill:{folder}", "before", second, "create", "-t", "plain", "web", "-n", "2", code=6)
    assert "No space left" in done.stderr
    assert "undone: " in done.stderr
    assert [row["name"] for row in bare.ls()] == ["first"]
    bare.check()
    (folder / "filler").unlink()
    bare.v("create", "-t", "plain", "web", "-n", "2")


def test_more_processors_than_qemu_gives(bare: Host) -> None:
    one_image(bare)
    text = bare.config.read_text()
    arch = host_arch()
    if arch.emulated_vcpus is not None:
        # QEMU itself refuses one more than what virshle takes for its bound.
        argv = [arch.qemu, "-machine", f"{arch.machine},accel=tcg", "-cpu", "max", "-display", "none", "-nodefaults"]
        more = ["-smp", str(arch.emulated_vcpus + 1), "-S"]
        assert subprocess.run([*argv, *more], capture_output=True, timeout=60, check=False).returncode == 1
    most = board_vcpus(arch.qemu, arch.machine)
    assert most is not None
    bare.configure(text.replace('name = "plain"', f'name = "plain"\nhypervisor = "qemu"\nvcpu = {most + 1}', 1))
    assert "gives a VM at most" in refused(bare, 3, "create", "-t", "plain")
