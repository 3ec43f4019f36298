"""`v run` with the tiny guest: in, out, its exit code, and that nothing stays of it."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.host.host import LONG, Host, V

pytestmark = pytest.mark.heart


def run(host: Host, folder: Path, *words: str, code: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
    argv = [str(V), "run", "-t", "tiny", *words]
    done = subprocess.run(
        argv, env=host.environment(), text=True, capture_output=True, timeout=LONG, input=stdin, cwd=folder
    )
    assert done.returncode == code, done.stderr
    assert host.ls() == []
    host.check()
    return done


def test_files_go_in_and_out_and_the_exit_code_is_the_commands(host: Host, tmp_path: Path) -> None:
    (tmp_path / "src/deep").mkdir(parents=True)
    (tmp_path / "src/deep/a file").write_text("one\n")
    (tmp_path / "src/run").write_text("#!/bin/sh\ncat 'deep/a file' -\n")
    (tmp_path / "src/run").chmod(0o755)
    (tmp_path / "notes").write_text("two\n")
    words = ("--in", "src", "--in", "notes:/srv/new/name", "--out", "/srv/new:results", "--out", "log:logs/")
    command = "cd src && ./run | tee ~/log; cp ~/log /srv/new/; exit 7"
    done = run(host, tmp_path, *words, "--", command, code=7, stdin="typed\n")
    assert done.stdout == "one\ntyped\n"
    assert (tmp_path / "logs/log").read_text() == "one\ntyped\n"
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["log", "name"]
    assert (tmp_path / "results/name").read_text() == "two\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "notes", "results", "src"]


def test_what_is_missing_or_odd_is_not_taken_out(host: Host, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    assert "there is a folder" in run(host, tmp_path, "--out", "there", "--", "true", code=5).stderr
    command = "mkdir x; ln -s /etc/passwd x/bad"
    said = run(host, tmp_path, "--out", "x", "--out", "nowhere", "--", command, code=6).stderr
    assert "x/bad is a link to /etc/passwd" in said
    said = run(host, tmp_path, "--out", "nowhere", "--", "exit 3", code=3).stderr
    assert "nowhere was not copied out" in said
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_deletes_the_vm_too(host: Host, tmp_path: Path, number: int) -> None:
    argv = [str(V), "run", "-t", "tiny", "--", "echo begun; sleep 1000"]
    with subprocess.Popen(argv, env=host.environment(), stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "begun\n"
        running.send_signal(number)
        assert running.wait(timeout=LONG) == 130
    assert host.ls() == []
    host.check()


def test_one_that_does_not_get_ready_is_deleted_too(host: Host, tmp_path: Path) -> None:
    said = run(host, tmp_path, "--timeout", "0", "--", "true", code=8).stderr
    assert "gave up waiting" in said
    assert "deleted " in said


def test_it_is_kept_when_asked(host: Host) -> None:
    said = host.v("run", "-t", "tiny", "--keep", "--", "touch", "/root/made here")
    (row,) = host.ls()
    assert row["state"] == "running"
    assert f"v delete --force {row['name']}" in said.stderr
    assert host.v("ssh", row["name"], "ls /root").stdout == "made here\n"
    host.v("delete", "--force", row["name"])
    host.check()
