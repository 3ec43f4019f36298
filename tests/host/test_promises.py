"""What the README promises of the look of it."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import time
from uuid import uuid4

import pytest

from tests.host.host import Host, V
from tests.host.test_kill import one_image


def on_terminal(host: Host, answer: str, *words: str) -> tuple[int, str]:
    """Runs `v` on a terminal of its own, and types the answer once it has asked."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [str(V), *words], env=host.environment(), stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    said = b""
    deadline = time.monotonic() + 60
    while b"[y/N]" not in said:
        assert time.monotonic() < deadline, said
        said += os.read(controller, 1024)
    os.write(controller, answer.encode() + b"\n")
    code = process.wait(timeout=60)
    os.close(controller)
    return code, said.decode()


def test_delete_asks_on_a_terminal_for_one_as_for_many(bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web", "-n", "2")
    code, said = on_terminal(bare, "n", "delete", "--all")
    assert "web-1, web-2" in said
    assert code == 130
    code, said = on_terminal(bare, "n", "delete", "web-1")
    assert (code, "Delete the VM for good: web-1?" in said) == (130, True)
    assert len(bare.ls()) == 2
    assert on_terminal(bare, "y", "delete", "--all")[0] == 0
    assert bare.ls() == []


def test_bulk_delete_checks_all_before_the_first(bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web", "-n", "2")
    second = next(row for row in bare.ls() if row["name"] == "web-2")
    path = bare.state / "vm" / second["uuid"] / "vm.json"
    path.write_text(path.read_text().replace('"readonly": false', '"readonly": "maybe"'))
    bare.v("delete", "web-1", "web-2", "--yes", code=5)
    assert {row["name"] for row in bare.ls()} == {"web-1", "web-2"}


def test_a_copied_folder_is_another_vm(bare: Host) -> None:
    """Its name and number are taken: the list says so, and the first one keeps them."""
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    first, copy = bare.ls()[0]["uuid"], str(uuid4())
    shutil.copytree(bare.state / "vm" / first, bare.state / "vm" / copy)
    path = bare.state / "vm" / copy / "vm.json"
    path.write_text(path.read_text().replace(first, copy))
    rows = {row["uuid"]: row for row in bare.ls()}
    assert first in rows[copy]["problem"]
    assert rows[first]["problem"] is None
    bare.v("delete", "web")
    assert [row["uuid"] for row in bare.ls()] == [copy]
    bare.v("create", "-t", "plain", "other")
    bare.v("delete", "web")
    bare.check()


def test_a_moved_folder_is_found_by_its_name(bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    for kind, name in (("name", "web"), ("id", "1")):
        (bare.state / kind / name).unlink()
    assert bare.v("info", "web").returncode == 0
    bare.v("create", "-t", "plain", "other")
    bare.check()


def test_short_commands_load_little(bare: Host) -> None:
    """`v --version` needs click alone, and lists neither the configuration nor what checks it."""
    probe = (
        "import sys; sys.argv = ['v', *{words!r}]\nfrom virshle.cli.main import run\nrun()\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    for words, unwanted in (
        (["--version"], ("pydantic", "rich", "sh", "jinja2", "virshle.service", "subprocess")),
        (["ls"], ("pydantic", "rich", "sh", "jinja2", "tomllib", "concurrent.futures", "virshle.plan", "virshle.rpc")),
    ):
        argv = [str(V.with_name("python")), "-c", probe.format(words=words)]
        done = subprocess.run(argv, env=bare.environment(), text=True, capture_output=True, check=True)
        loaded = set(done.stderr.split())
        assert "click" in loaded
        assert loaded.isdisjoint(unwanted), loaded & set(unwanted)


@pytest.mark.heart
def test_an_edited_image_is_built_anew(bare: Host) -> None:
    """A disk is never cloned from what the configuration no longer says."""
    for size in ("1", "2"):
        file = bare.folder / f"{size}.nix"
        file.write_text(
            'derivation { name = "x"; system = builtins.currentSystem; builder = "/bin/sh"; '
            f'args = [ "-c" "/bin/dd if=/dev/zero of=$out bs=1048576 count={size}" ]; }}'
        )
        bare.configure(
            f'[[image]]\nname = "own"\nfile = "{size}.nix"\n'
            '[[template.vm]]\nname = "own"\n[[template.vm.disk]]\nname = "os"\nimage = "own"\n'
        )
        bare.env["NIX_CONFIG"] = "sandbox = false\nsubstituters ="
        name = bare.v("create", "-t", "own").stdout.strip()
        (found,) = json.loads(bare.v("info", name, "--format", "json").stdout)
        assert found["disks"][0]["size"] == int(size) * 2**20
        assert found["origin"]["source"] == str(file)


@pytest.mark.heart
def test_the_started_command_line_starts_it_by_hand(host: Host) -> None:
    """As docs/troubleshooting.md has it: without virshle, which then finds it."""
    host.v("create", "-t", "tiny", "web", "--start", "--wait")
    host.v("stop", "web")
    lines = host.v("logs", "web", "--commands").stdout.splitlines()
    command = next(line for line in reversed(lines) if line.startswith("sh -c 'cd / || exit; setsid "))
    subprocess.run(["bash", "-c", command], check=True, timeout=60)
    assert host.ls()[0]["state"] == "running"
    deadline = time.monotonic() + 300
    while host.v("ssh", "web", "true", code=None).returncode != 0:
        assert time.monotonic() < deadline
        time.sleep(1)
    subprocess.run([next(host.state.glob("vm/*/vmm.sh")), "stop"], check=True, timeout=60, capture_output=True)
    while host.ls()[0]["state"] != "stopped":
        assert time.monotonic() < deadline
        time.sleep(0.2)
