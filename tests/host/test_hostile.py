"""What really happens to hostile folders and words: which programs are run with what, what is touched, who may read."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.host.host import LONG, Host, V
from tests.host.readable import readable
from tests.host.test_kill import one_image
from tests.unit.hostile import FILES

pytestmark = pytest.mark.heart

ODD = "$(touch x) `touch x`;'\"\ntouch x\n&*,%"
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="SKIPPED LOUDLY: only root can be somebody else")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMadeUpKeyOfNobody00000000000000000000000000 ada"


@contextmanager
def _traced(bare: Host, host: Host, *words: str) -> Iterator[list[list[str]]]:
    """Every program that was run, by whomever, as its words: known when the last of them has ended, after the block."""
    # A file for each process: in one for all, a call that another process interrupts is told in two lines.
    traces = bare.folder / f"trace-{len(list(bare.folder.glob('trace-*')))}"
    traces.mkdir()
    strace = ["strace", "-ff", "-qq", "-s", "100000", "-e", "trace=execve", "-o", str(traces / "of")]
    process = subprocess.Popen([*strace, str(V), *words], env=host.environment(), stdin=subprocess.DEVNULL)
    ran: list[list[str]] = []
    yield ran
    assert process.wait(timeout=LONG) == 0
    told = "".join(path.read_text() for path in sorted(traces.iterdir()))
    lines = re.findall(r'execve\("(?:[^"\\]|\\.)*", \[(.*)\], 0x\S+ .*\) = 0', told)
    # strace writes strings as C does, which Python reads too.
    ran += [[ast.literal_eval(word) for word in re.findall(r'"(?:[^"\\]|\\.)*"', line)] for line in lines]


@pytest.mark.skipif(shutil.which("strace") is None, reason="SKIPPED LOUDLY: no strace to see what is run")
def test_no_shell_is_given_a_word_of_ours_to_read(bare: Host) -> None:
    one_image(bare)
    odd = Host(bare.folder / ODD, dict(bare.env))
    odd.folder.mkdir(mode=0o711)
    with _traced(bare, odd, "create", "-t", "plain", "web") as created:
        pass
    with _traced(bare, odd, "start", "web") as started:
        deadline = time.monotonic() + LONG
        while odd.ls()[0]["state"] != "running" and time.monotonic() < deadline:
            time.sleep(0.1)
        # As strace goes on as long as the VM does.
        odd.v("stop", "web", "--force", "--timeout", "0")
    with _traced(bare, odd, "delete", "web") as deleted:
        pass
    ran = [*created, *started, *deleted]
    assert {"cp", "mkfs.vfat", "mcopy", "flock", "touch"} <= {Path(argv[0]).name for argv in ran}
    for argv in ran:
        if argv[1:2] == ["-c"]:
            assert ODD not in argv[2], argv
        assert "x" not in argv, argv
        if Path(argv[0]).name == "touch":
            assert (len(argv), argv[2].rpartition("/")[2]) == (3, "vmm.pid"), argv
    # Where `v` was run, and so what it ran.
    assert not [*bare.folder.rglob("x"), *Path().glob("x")]


def _precious(host: Host) -> Path:
    folder = host.folder / "precious"
    (folder / "inner").mkdir(parents=True)
    for name in ("os", "kernel", "console.log", "vm.json", "inner/file"):
        (folder / name).write_text("precious")
    folder.chmod(0o700)
    return folder


def _look(folder: Path) -> list[tuple[str, int, int, bytes]]:
    paths = [folder, *sorted(folder.rglob("*"))]
    return [
        (str(path), path.stat().st_mode, path.stat().st_uid, path.read_bytes() if path.is_file() else b"")
        for path in paths
    ]


@pytest.mark.parametrize(
    "name", ["disk", "boot", "log", "log/inner", "disk/os", "seed", "vmm.pid", "commands.log", "run"]
)
def test_nothing_that_a_link_leads_to_is_touched(name: str, bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    precious = _precious(bare)
    (folder,) = (bare.state / "vm").iterdir()
    run = bare.run / "vm" / folder.name.replace("-", "")[:12]
    path = run if name == "run" else folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(precious / "os" if name in ("disk/os", "vmm.pid", "commands.log") else precious)
    before = _look(precious)
    try:
        started = bare.v("start", "web", code=None)
        assert "Traceback" not in started.stderr
        assert _look(precious) == before
        bare.v("ls")
    finally:
        bare.v("delete", "web", "--force")
    assert _look(precious) == before
    assert bare.folders() == set()


def test_a_folder_that_is_a_link_is_no_vm_and_is_not_deleted(bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    (folder,) = (bare.state / "vm").iterdir()
    folder.rename(bare.folder / "elsewhere")
    folder.symlink_to(bare.folder / "elsewhere")
    before = _look(bare.folder / "elsewhere")
    for words in (["start", "web"], ["delete", "web"]):
        said = bare.v(*words, code=None)
        assert said.returncode in (5, 6)
        assert said.stderr.startswith("error: ")
    assert _look(bare.folder / "elsewhere") == before
    bare.v("create", "-t", "plain", "other")
    assert [row["state"] for row in bare.ls()] == ["stopped", "broken"]
    bare.v("delete", "--force", "web")
    assert not folder.is_symlink()
    assert _look(bare.folder / "elsewhere") == before
    assert [row["name"] for row in bare.ls()] == ["other"]


def test_a_state_folder_that_is_a_link_works(bare: Host) -> None:
    one_image(bare)
    real = bare.folder / "real"
    real.mkdir(mode=0o711)
    bare.state.symlink_to(real)
    bare.v("create", "-t", "plain", "web")
    bare.v("delete", "web")
    assert bare.state.is_symlink()
    assert list((real / "vm").iterdir()) == []


@ROOT
def test_the_vm_of_somebody_else_is_left_alone(bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web", "-n", "2")
    theirs = bare.state / "name/web-1"
    os.chown(theirs, 65534, 65534)
    for verb in ("start", "delete", "stop"):
        assert "is not yours" in bare.v(verb, "web-1", code=5).stderr
    bare.v("delete", "web-2")
    assert [row["name"] for row in bare.ls()] == ["web-1"]


@pytest.mark.parametrize("kind", FILES)
def test_an_odd_thing_in_the_place_of_a_vm_stops_nobody(kind: str, bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    for name in ("00000000-0000-4000-8000-000000000000", ".new-00000000-0000-4000-8000-000000000001"):
        FILES[kind](bare.state / "vm" / name)
    FILES[kind](bare.config.with_name("image.raw.odd"))
    assert [row["name"] for row in bare.ls()][:1] == ["web"]
    assert "Traceback" not in bare.v("doctor", code=None).stderr
    bare.v("create", "-t", "plain", "other")
    bare.v("delete", "web", "other", "--yes")


@ROOT
def test_another_user_reads_nothing_of_a_vm_and_no_secret_is_told(bare: Host, started: Callable[[], str]) -> None:
    said = started()
    paths = [path for folder in (bare.state, bare.run) for path in (folder, *folder.rglob("*"))]
    files = {path.name for path in paths}
    assert {"os", "vm.json", "qmp.sock", "console.log", "id_ed25519", "user-data", ".seed", "launch.json"} <= files
    # How it is run is no secret: ps shows it to everybody.
    assert {Path(path).name for path in readable(paths)} == {"vmm.sh"}
    assert readable([Path("/etc/passwd"), Path("/usr")]) == {"/etc/passwd", "/usr"}

    private = (bare.state / "key/id_ed25519").read_text().splitlines()[1:-1]
    assert private
    for pid in bare.vmms():
        said += Path(f"/proc/{pid}/cmdline").read_text() + Path(f"/proc/{pid}/environ").read_text()
    for name in ("commands.log", "vmm.sh", "launch.json", "log/vmm.log", "seed/user-data", "vm.json"):
        said += "".join(path.read_text() for path in bare.state.glob(f"vm/*/{name}"))
    assert "qemu" in said
    assert KEY in said  # the public ones are, and may be, told
    assert not [line for line in private if line in said]
    assert "PRIVATE KEY" not in said


@pytest.fixture
def started(bare: Host) -> Callable[[], str]:
    """A VM that runs, and all that was said of it."""

    def start() -> str:
        one_image(bare)
        data = bare.folder / "user-data.toml"
        data.write_text(f'[[user]]\nname = "ada"\nssh.authorized_keys = ["{KEY}"]\n')
        said = ""
        for words in (
            ("create", "-t", "plain", "web", "-u", str(data), "-vvvv"),
            ("start", "web", "-vvvv"),
            ("script", "web"),
            ("info", "web"),
            ("logs", "web", "--commands"),
            ("ls", "--format", "json", "-vvvv"),
        ):
            done = bare.v(*words)
            said += done.stdout + done.stderr
        assert json.loads(bare.v("ls", "--format", "json").stdout)[0]["state"] == "running"
        return said

    return start
