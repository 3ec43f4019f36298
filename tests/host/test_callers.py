"""Who calls, from where: `v` as a shell, cron, a logout or a terminal leaves it."""

from __future__ import annotations

import os
import pty
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.host.host import LONG, Host, V
from tests.host.nobody import nobody
from virshle import log

MISSING = 4242
"""A user who has no entry in /etc/passwd."""


def _shell(host: Host, script: str, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`"$@"` in the script is `v` and the words."""
    argv = ["bash", "-c", script, "bash", str(V), *words]
    return subprocess.run(argv, env=host.environment(), text=True, capture_output=True, timeout=LONG, cwd=cwd)


@pytest.mark.parametrize("closed", ["2>&-", "1>&-", "0<&-", "0<&- 1>&- 2>&-", "2>/dev/full", "2> >(exit)"])
def test_what_the_caller_closed_changes_neither_the_work_nor_the_exit_code(host: Host, closed: str) -> None:
    done = _shell(host, f'"$@" {closed}', "create", "-t", "tiny", "web")
    assert (done.returncode, done.stdout) == (0, "" if "1>&-" in closed else "web\n")
    assert _shell(host, f'"$@" {closed}', "info", "nobody").returncode == 4
    assert _shell(host, f'"$@" {closed}', "delete", "web", "-v").returncode == 0
    host.check()


def test_what_is_told_goes_to_no_file_of_ours_where_stderr_is_closed(host: Host) -> None:
    # Each file that is opened would have its number, and be told what is being done.
    assert _shell(host, '"$@" 2>&-', "create", "-t", "tiny", "web", "-vvvv").returncode == 0
    for path in host.state.rglob("*"):
        if path.is_file() and path.name != "commands.log" and path.stat().st_size < 2**20:
            assert b"make the folder in which it is staged" not in path.read_bytes(), path
    host.check()


def test_in_a_folder_that_was_removed_full_paths_work(host: Host, tmp_path: Path) -> None:
    gone = 'mkdir gone; cd gone; rmdir ../gone; exec "$@"'
    assert _shell(host, gone, "create", "-t", "tiny", "web", cwd=tmp_path).returncode == 0
    assert "web" in _shell(host, gone, "ls", cwd=tmp_path).stdout
    for words in (("image", "import", "x.raw"), ("create", "-t", "tiny", "-u", "me.toml")):
        done = _shell(host, gone, *words, cwd=tmp_path)
        assert (done.returncode, "the current folder was removed" in done.stderr) == (3, True), done.stderr
    (tmp_path / "me.toml").write_text("")
    given = ("create", "-t", "tiny", "db", "-u", str(tmp_path / "me.toml"))
    assert _shell(host, gone, *given, cwd=tmp_path).returncode == 0
    host.check()


def _on_a_terminal(host: Host, *words: str, **env: str) -> str:
    """What it prints there, stdout and stderr."""
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in host.environment().items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [str(V), *words], env=environment | {"TERM": "xterm"} | env, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    said = b""
    # The end of a terminal whose other side is closed is an error (pty(7)).
    try:
        while block := os.read(ours, 65536):
            said += block
    except OSError:
        pass
    os.close(ours)
    process.wait(LONG)
    return said.decode().replace("\r\n", "\n")


def test_colours_are_for_terminals_that_want_them_on_stdout_too(host: Host) -> None:
    host.v("create", "-t", "tiny", "web")
    for words in (("ls",), ("doctor",), ("info", "nobody")):
        assert "\x1b[" in _on_a_terminal(host, *words)
        assert "\x1b" not in _on_a_terminal(host, *words, NO_COLOR="1")
        assert "\x1b" not in _on_a_terminal(host, *words, TERM="dumb")
        done = host.v(*words, code=None)
        assert "\x1b" not in done.stdout + done.stderr


def test_what_others_wrote_does_not_drive_the_terminal(host: Host) -> None:
    host.v("create", "-t", "tiny", "web")
    (folder,) = (host.state / "vm").iterdir()
    log_file = folder / "log/console.log"
    log_file.write_bytes(b"\x1b]0;gotcha\x07\x1b[32mgreen\x1b[0m\r\nlogin: ")
    assert _on_a_terminal(host, "logs", "web") == "\\x1b]0;gotcha\\x07green\nlogin: "
    assert _on_a_terminal(host, "logs", "web", "--raw") == log_file.read_bytes().decode()
    assert (
        subprocess.run([V, "logs", "web"], env=host.environment(), capture_output=True).stdout == log_file.read_bytes()
    )
    odd = host.state / "vm" / "a\x1b[2Jb\nc"
    odd.mkdir()
    shown = _on_a_terminal(host, "doctor", NO_COLOR="1")
    assert "a\\x1b[2Jb\\nc" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("name", ["a\x1b[2Jb", "\x01\x02", "c\x9b1m", "it's\x07", "a\nb", "\udcff", "plain", "\x1bB4"])
def test_a_line_to_paste_shows_each_control_character_and_means_the_same(name: str) -> None:
    line = log.pasteable(f"printf %s {shlex.quote(name)}", lines=False)
    assert line.isprintable()
    env = os.environ | {"LC_ALL": "C.UTF-8"}
    assert subprocess.run(["bash", "-c", line], capture_output=True, check=True, env=env).stdout == os.fsencode(name)


@contextmanager
def _mounted(folder: Path, options: str) -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount what this needs")
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_state_that_is_mounted_noexec_is_as_good_as_another(bare: Host, tiny: Path) -> None:
    with _mounted(bare.state, "noexec"):
        shutil.copytree(tiny, bare.state / "image/tiny", symlinks=True)
        bare.v("create", "-t", "tiny", "web", "--start", "--wait")
        assert bare.v("ssh", "web", "uname").stdout == "Linux\n"
        bare.v("stop", "web")
        bare.check()


def test_folders_that_virshle_makes_itself_may_be_passed_by_its_vms_user(bare: Host, tiny: Path) -> None:
    bare.env |= {"VIRSHLE_STATE_DIR": str(bare.folder / "a/b/s"), "VIRSHLE_RUN_DIR": str(bare.folder / "c/d/r")}
    image = bare.folder / "a/b/s/image/tiny"
    bare.v("image", "gc")  # makes nothing
    assert not (bare.folder / "a").exists()
    bare.v("create", "-t", "tiny", "web", "--start", "--wait")
    assert image.is_dir()
    bare.v("delete", "--force", "web")


def test_nobody_is_needed_to_be_logged_in() -> None:
    with nobody() as user:
        session = user.home / "run"
        user.v("create", "-t", "tiny", "web", "--start", "--wait", "--timeout", "300")
        # A logout empties it, and cron does not have it (pam_systemd(8)).
        shutil.rmtree(session)
        del user.env["XDG_RUNTIME_DIR"]
        assert user.v("ls", "--format", "csv", "-c", "name,state").stdout == "name,state\nweb,running\n"
        assert user.v("ssh", "web", "uname").stdout == "Linux\n"
        # Whatever emptied it: there is another way than to cut its power.
        shutil.rmtree(user.state / "run")
        stopped = user.v("stop", "web")
        assert "stopped web by ssh" in stopped.stderr
        user.v("start", "web", "--wait", "--timeout", "300")
        assert "stopped web gracefully" in user.v("stop", "web").stderr
        _no_name(user.argv, user.env, user.home)


def _no_name(argv: list[str], env: dict[str, str], home: Path) -> None:
    """What is said to who is not in /etc/passwd."""
    home.chmod(0o711)
    state = Path(f"/tmp/vt-{os.getpid()}-{MISSING}")
    identity = [f"--reuid={MISSING}", f"--regid={MISSING}", "--clear-groups"]

    def v(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        given = {name: value for name, value in env.items() if name != "HOME"} | more
        return subprocess.run(
            ["setpriv", *identity, *argv, *words], env=given, cwd="/", capture_output=True, text=True, timeout=LONG
        )

    nowhere = v("ls")
    assert (nowhere.returncode, "export HOME=" in nowhere.stderr) == (3, True)
    own = {"VIRSHLE_STATE_DIR": str(state), "HOME": "/tmp"}
    assert v("ls", **own).returncode == 0
    created = v("create", "-t", "tiny", **own)
    assert (created.returncode, "useradd --uid 4242" in created.stderr) == (3, True), created.stderr
    assert "useradd --uid 4242" in v("doctor", **own).stdout
    assert not state.exists()


def test_a_script_of_ours_prints_text_alone_into_a_pipe() -> None:
    lib = Path(__file__).parents[2] / "scripts/lib.sh"
    script = f'. {shlex.quote(str(lib))}; say "one line"; shown true'
    assert subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stderr == "one line\n"
    for env, bold in (
        ({"TERM": "xterm"}, True),
        ({"TERM": "dumb"}, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
    ):
        ours, theirs = pty.openpty()
        given = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | env
        subprocess.run(["bash", "-c", script.partition("; shown")[0]], stderr=theirs, check=True, env=given)
        assert (b"\x1b" in os.read(ours, 1000)) is bold
        os.close(ours)
        os.close(theirs)
