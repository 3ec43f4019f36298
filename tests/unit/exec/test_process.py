from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.support import BOOT_ID, record_of
from virshle.exec import process
from virshle.exec.process import Process, launch, read_record, running


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "pid"


def _fields() -> list[str]:
    return record_of(os.getpid()).split()


def test_the_recorded_process_runs(record: Path) -> None:
    record.write_text(record_of(os.getpid()))
    found = running(record)
    assert found is not None
    assert found.pid == os.getpid()


@pytest.mark.parametrize(
    "change",
    [{0: "4194999"}, {1: "1"}, {2: "00000000-0000-0000-0000-000000000000"}],
    ids=["no such process", "the pid was used again", "another boot"],
)
def test_another_process_is_never_taken_for_it(change: dict[int, str], record: Path) -> None:
    record.write_text(" ".join(change.get(index, field) for index, field in enumerate(_fields())))
    assert read_record(record) is not None
    assert running(record) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "12",
        "12 34",
        "x 34 boot",
        "12 y boot",
        "12 34 boot more",
        "12.0 34 boot",
        "\udcff 1 b",
        "12 34 b\x00 c",
    ],
)
def test_a_torn_record_is_none(text: str, record: Path) -> None:
    record.write_bytes(text.encode(errors="surrogateescape"))
    assert read_record(record) is None
    assert running(record) is None


def test_a_missing_or_odd_record_is_none(tmp_path: Path) -> None:
    assert running(tmp_path / "missing") is None
    assert running(tmp_path) is None


@pytest.mark.parametrize(
    ("stat", "alive"),
    [
        ("7 (qemu) S 1 " + "0 " * 17 + "4242 0 0", True),
        ("7 (qemu) Z 1 " + "0 " * 17 + "4242 0 0", False),
        ("7 (qemu) X 1 " + "0 " * 17 + "4242 0 0", False),
        ("7 (a) Z 0 (b) c)) R 1 " + "0 " * 17 + "4242 0 0", True),
        ("7 (qemu) S 1 " + "0 " * 17 + "4243 0 0", False),
    ],
    ids=["sleeps", "zombie", "dead", "odd name", "started later"],
)
def test_the_kernels_word_is_read_right(
    stat: str, alive: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.read_text

    def read_text(self: Path, *args: object, **more: object) -> str:
        return stat if str(self) == "/proc/7/stat" else real(self, "utf-8")

    monkeypatch.setattr(Path, "read_text", read_text)
    assert Process(7, 4242, BOOT_ID.read_text().strip()).alive() is alive


def test_a_process_that_ends_while_it_is_looked_at_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(self: Path, *_: object, **__: object) -> str:
        raise ProcessLookupError(3, "No such process")

    monkeypatch.setattr(Path, "read_text", ended)
    assert not Process(7, 1, "b").alive()


def test_a_launch_is_a_session_of_its_own_that_holds_the_records_lock() -> None:
    command = launch(("qemu", "-name", "a b"), Path("/run/v/pid"), Path("/log/vmm.log"))
    assert command.argv[:8] == ("setsid", "--fork", "flock", "--nonblock", "--no-fork", "/run/v/pid.lock", "sh", "-c")
    assert command.argv[9:] == ("sh", "/run/v/pid", "qemu", "-name", "a b")
    assert command.into == Path("/log/vmm.log")
    assert command.detached  # it holds no lock of ours


def test_the_launcher_records_itself_last_before_it_becomes_the_program() -> None:
    script = launch(("x",), Path("/r"), Path("/l")).argv[8]
    assert script == process._LAUNCHER
    cleaned, recorded, became = (script.index(part) for part in ("rm -f", '>"$record"', 'exec "$@"'))
    assert cleaned < recorded < became
