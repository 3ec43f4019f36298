from __future__ import annotations

import json
from pathlib import Path

import pytest
from pytest_subprocess import FakeProcess

from virshle.errors import HostError
from virshle.image.debian import Package, parts_steps, pin, resolve
from virshle.model.arch import ARCHES
from virshle.plan import Write

AMD64 = ARCHES["x86_64"]
KERNEL = "linux-image-6.1.0-9-cloud-amd64"
BUSYBOX = Package("http://d/busybox.deb", "busybox-static_1%3a1.35.0-4+b3_amd64.deb", 943360, "a" * 64)
OTHERS = [
    Package(f"http://d/{name}.deb", f"{name}_1_amd64.deb", 1, "c" * 64)
    for name in ("dropbear-bin", "e2fsprogs", KERNEL)
]
SOCAT = Package("http://d/socat.deb", "socat_1.7.4.4-2_amd64.deb", 374764, "b" * 64)


def _uri(package: Package) -> str:
    return f"'{package.url}' {package.file} {package.size} SHA256:{package.sha256}\n"


def _apt(fp: FakeProcess, *, meta: str = f"linux-image-cloud-amd64\n  Depends: {KERNEL}\n", code: int = 0) -> None:
    fp.register(["apt-cache", fp.any()], stdout=meta)
    fp.register(
        ["apt-get", fp.any()],
        stdout="Reading...\n" + "".join(map(_uri, [*OTHERS, SOCAT])),
        returncode=code,
        stderr="E: broken\nof old",
    )
    fp.register(["apt-get", fp.any(), "download", fp.any()], stdout=_uri(BUSYBOX) + _uri(SOCAT))


def test_packages_come_with_place_size_and_hash_each_once(fp: FakeProcess) -> None:
    _apt(fp)
    assert resolve(AMD64) == sorted([BUSYBOX, SOCAT, *OTHERS], key=lambda package: package.file)


def test_one_that_is_left_out_is_told(fp: FakeProcess) -> None:
    """As apt does with what it has in its cache already."""
    lost = OTHERS[0]
    fp.register(["apt-cache", fp.any()], stdout=f"linux-image-cloud-amd64\n  Depends: {KERNEL}\n")
    fp.register(["apt-get", fp.any()], stdout="".join(_uri(one) for one in [*OTHERS, SOCAT] if one is not lost))
    fp.register(["apt-get", fp.any(), "download", fp.any()], stdout=_uri(BUSYBOX))
    with pytest.raises(HostError, match="no URL and SHA256 for dropbear-bin"):
        resolve(AMD64)


def test_neither_what_is_installed_nor_what_is_cached_is_left_out(fp: FakeProcess) -> None:
    _apt(fp)
    resolve(AMD64)
    asked = [list(call) for call in fp.calls if "--print-uris" in call]
    assert len(asked) == 2
    for call in asked:
        assert {"Dir::State::status=/dev/null", "Dir::Cache::archives=/nonexistent"} <= set(call)


def test_without_lists_there_is_no_answer_yet(fp: FakeProcess) -> None:
    _apt(fp, meta="")
    assert resolve(AMD64) is None


def test_a_failure_is_told_in_apts_words(fp: FakeProcess) -> None:
    _apt(fp, code=100)
    with pytest.raises(HostError, match="apt cannot find the packages") as caught:
        resolve(AMD64)
    assert caught.value.details == ["E: broken", "of old"]


def test_what_nix_fetches_is_pinned_by_hash_and_busybox_is_not_among_it() -> None:
    assert json.loads(pin([BUSYBOX, SOCAT])) == [{"url": SOCAT.url, "sha256": SOCAT.sha256}]


def test_the_parts_are_made_beside_and_take_their_place_when_whole() -> None:
    steps = parts_steps([BUSYBOX, SOCAT], Path("/s/parts"))
    shells = [step.shell() for step in steps]
    assert shells[0] == "rm -rf -- /s/.new-parts"
    assert shells[-2:] == ["rm -rf -- /s/parts", "mv -T /s/.new-parts /s/parts"]
    (written,) = (step for step in steps if isinstance(step, Write))
    assert written.path == Path("/s/.new-parts/parts.json")
    assert any(shell.endswith("download busybox-static=1:1.35.0-4+b3") for shell in shells)
