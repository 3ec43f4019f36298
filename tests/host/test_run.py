"""`v run` with the tiny guest: in, out, its exit code, and that nothing stays of it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.host.host import LONG, Host, V
from tests.host.test_image import wait_for
from virshle.errors import HostError
from virshle.plan import Apply, Plan
from virshle.service.carry import fetch_steps, fetched, send_step, sent

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
    said = run(host, tmp_path, "--out", "nowhere", "--", "exit 3", code=3).stderr
    assert "nowhere was not copied out" in said
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_file_name_that_is_not_utf_8_goes_in_and_out(host: Host, tmp_path: Path) -> None:
    name = os.fsdecode(b"n\xff")
    (tmp_path / name).write_text("x")
    run(host, tmp_path, "--in", name, "--out", f"{name}:made", "--", f"test -f n* && echo y >>{name}")
    assert (tmp_path / "made").read_text() == "xy\n"


def _kept(host: Host, said: str) -> str:
    """The line that copies it out, of the VM that was kept."""
    (row,) = host.ls()
    assert row["state"] == "running"
    assert f"v delete --force {row['name']}" in said
    host.check()
    return next(line for line in said.splitlines() if "; to copy it: " in line).partition("; to copy it: ")[2]


def test_what_cannot_be_copied_out_stays_in_the_vm_and_comes_out_by_hand(host: Host, tmp_path: Path) -> None:
    command = "mkdir 'a x'; echo made >'a x/file'; ln -s /etc/passwd 'a x/bad'; echo 1 >one"
    words = [str(V), "run", "-t", "tiny", "--out", "a x", "--out", "nowhere", "--out", "one", "--", command]
    done = subprocess.run(words, env=host.environment(), text=True, capture_output=True, timeout=LONG, cwd=tmp_path)
    assert done.returncode == 6, done.stderr
    assert "error: a x was not copied out: a x/bad is a link to /etc/passwd" in done.stderr
    assert "nowhere does not exist in the guest" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    by_hand = _kept(host, done.stderr).replace("v ssh", f"{V} ssh", 1)
    subprocess.run(["sh", "-c", by_hand], env=host.environment(), check=True, timeout=LONG, cwd=tmp_path)
    assert (tmp_path / "a x/file").read_text() == "made\n"
    host.v("delete", "--force", host.ls()[0]["name"])


@pytest.mark.skipif(os.geteuid() != 0, reason="SKIPPED LOUDLY: only root can mount the small file system this needs")
def test_on_a_full_or_read_only_file_system_nothing_is_lost(host: Host, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], check=True)
    try:
        words = [str(V), "run", "-t", "tiny", "--out", "big:small/", "--", "truncate -s 1M big"]
        done = subprocess.run(words, env=host.environment(), text=True, capture_output=True, timeout=LONG, cwd=tmp_path)
        assert done.returncode == 6, done.stderr
        assert "error: big was not copied out" in done.stderr
        assert list(small.iterdir()) == []
        assert _kept(host, done.stderr)
        host.v("delete", "--force", host.ls()[0]["name"])
        subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
        said = run(host, tmp_path, "--out", "big:small/", "--", "true", code=6).stderr
        assert "Read-only file system" in said
        assert "created" not in said
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


def test_an_interrupt_while_it_is_copied_out_keeps_it(host: Host, tmp_path: Path) -> None:
    argv = [str(V), "run", "-t", "tiny", "--out", "big", "--", "truncate -s 900M big"]
    with subprocess.Popen(argv, env=host.environment(), stderr=subprocess.PIPE, text=True, cwd=tmp_path) as running:
        wait_for(lambda: bool(list(tmp_path.glob(".big.*/big"))))
        running.send_signal(signal.SIGINT)
        assert running.stderr is not None
        said = running.stderr.read()
        assert running.wait(timeout=LONG) == 130
    assert _kept(host, said).endswith("ssh " + host.ls()[0]["name"] + " 'tar -cf - -C . ./big' | tar -xf -")
    assert list(tmp_path.iterdir()) == []
    host.v("delete", "--force", host.ls()[0]["name"])


def test_a_place_that_cannot_be_written_is_refused_before_there_is_a_vm(host: Host, tmp_path: Path) -> None:
    said = run(host, tmp_path, "--out", "result:/proc/here/result", "--", "true", code=6).stderr
    assert "cannot put result into /proc" in said
    assert "created" not in said


def test_a_file_that_grows_while_tar_reads_it_is_a_warning_on_either_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the real tar, which waits for who reads: that one writes to the file meanwhile."""
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "logs/app.log"
    log.parent.mkdir()
    log.write_bytes(b"x" * 2**20)
    reads = '{ dd bs=512 count=1 iflag=fullblock status=none; echo more >>"$0"; cat; }'
    takes = ("bash", "-c", f'{reads} | bash -c "$2"', str(log))
    gives = ("bash", "-c", f'set -o pipefail; bash -c "$2" | {reads}', str(log))
    with Apply() as apply:
        apply(Plan("in", [send_step(takes, sent(f"logs:{tmp_path}/there"))]))
        came, steps = fetch_steps(gives, fetched("logs:back"))
        apply(Plan("out", steps))
        apply.commit()
    said = capsys.readouterr().err
    assert said.count("app.log: file changed as we read it") == 2
    for copy in (tmp_path / "there/app.log", came / "app.log"):
        assert copy.read_bytes().startswith(b"x" * 2**20)


def test_what_tar_cannot_read_at_all_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").write_text("x")
    with Apply() as apply:
        step = send_step(("cat", "--version"), sent("notes"))
        (tmp_path / "notes").unlink()
        with pytest.raises(HostError) as caught:
            apply(Plan("in", [step]))
    assert any("No such file" in line for line in caught.value.details)


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
