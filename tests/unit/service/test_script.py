"""A VM as a script: what it says, read as bash would. That it works is seen in tests/host/test_script.py."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.service.conftest import Guest
from tests.unit.support import make_vm, put_broken, put_vm, snapshot, uuid_of
from virshle.config.paths import Paths
from virshle.errors import ConfigError, ConflictError
from virshle.model.vm import Vm
from virshle.service import start as start_module
from virshle.service.lifecycle import stop
from virshle.service.node import Node
from virshle.service.script import script
from virshle.service.start import start
from virshle.store import Layout
from virshle.vmm import account

ODD = ["a b", "it's", 'a"b', "$(touch x)", "`touch x`", "a;b", "a\\b", "a&b", "-x", "a*b", "é", "#a", "a\ntouch x\n"]
STORE = "/nix/store/0-tiny"
DISKS = [
    {"name": "os", "file": "disk/os", "size": 2**21, "source": f"{STORE}/disk.raw"},
    {"name": "data", "file": "disk/data", "size": 2**20},
]
ORIGIN = {"image": "tiny", "source": "built in: tiny", "store_path": STORE}
FIRMWARE = {"kind": "firmware", "variables": "boot/efivars.fd"}

_HEREDOC = re.compile(r" <<'(EOF_*)'\n(.*?\n)??\1\n", re.DOTALL)


@dataclass(frozen=True)
class Step:
    guard: str
    """The test under which it is made; empty: always."""
    words: tuple[str, ...]


def _steps(text: str) -> list[Step]:
    """Of a script without odd paths."""
    _, _, body = _HEREDOC.sub("\n", text).partition("\nfi\n")
    steps, guard = [], ""
    for line in body.splitlines():
        if line.startswith("if "):
            guard = line.removeprefix("if ").removesuffix("; then")
        elif line == "fi":
            guard = ""
        elif line and not line.startswith("#"):
            steps.append(Step(guard, tuple(shlex.split(line))))
    return steps


def _position(steps: list[Step], *words: str | Path) -> int:
    """Of the step that has these words."""
    (found,) = [index for index, step in enumerate(steps) if {*map(str, words)} <= set(step.words)]
    return found


def _put(layout: Layout, **changes: Any) -> Vm:
    vm = make_vm(**{"disks": DISKS, "origin": ORIGIN, **changes})
    put_vm(layout, vm)
    return vm


def _script(node: Node) -> str:
    return script(node, node.store.find("web"))


def test_what_is_there_is_left_as_it_is(node: Node, layout: Layout) -> None:
    """Each part is guarded by the very thing that it makes."""
    folder = layout.vm(_put(layout).uuid)
    made = {
        folder / "disk/os": (" ! -e ", "mv", "-T", "--", f"{folder}/disk/.os.part"),
        folder / "disk/data": (" ! -e ", "mv", "-T", "--", f"{folder}/disk/.data.part"),
        folder / "boot/kernel": (" ! -e ", "mv", "-T", "--", f"{folder}/boot/.kernel.part"),
        folder / "boot/initrd": (" ! -e ", "mv", "-T", "--", f"{folder}/boot/.initrd.part"),
        folder / "vm.json": (" ! -e ", "mv", "-T", f"{folder}/vm.json.new"),
        layout.name("web"): (" ! -L ", "ln", "-sT", f"../vm/{folder.name}"),
        layout.id(1): (" ! -L ", "ln", "-sT", f"../vm/{folder.name}"),
    }
    steps = _steps(_script(node))
    for thing, (test, *words) in made.items():
        step = Step(f"[{test}{thing} ]", (*words, str(thing)))
        assert step in steps
        # And nothing makes or touches it but under that guard.
        assert all(other.guard == step.guard for other in steps if str(thing) == other.words[-1])
    guards = {step.guard for step in steps}
    assert guards == {"", *(f"[{test}{thing} ]" for thing, (test, *_) in made.items())}


def test_a_file_has_its_name_once_it_is_whole(node: Node, layout: Layout) -> None:
    """Whatever ends the script: as it looks only whether the file is there, half of one would be booted next time."""
    folder = layout.vm(_put(layout).uuid)
    steps = _steps(_script(node))
    for file, programs in {
        "disk/os": ["cp", "truncate", "sync", "mv"],
        "disk/data": ["truncate", "sync", "mv"],
        "boot/kernel": ["cp", "sync", "mv"],
        "boot/initrd": ["cp", "sync", "mv"],
    }.items():
        target = folder / file
        part = target.with_name(f".{target.name}.part")
        under = [step.words for step in steps if step.guard == f"[ ! -e {target} ]"]
        assert [words[0] for words in under] == programs
        assert all(words[-1] == str(part) for words in under[:-1])
    clone, grow, _ = (step.words for step in steps if step.words[-1] == f"{folder}/disk/.os.part")
    assert clone[-2] == f"{STORE}/disk.raw"
    assert grow[:3] == ("truncate", "-s", str(2**21))


def test_its_steps_come_in_order(node: Node, layout: Layout) -> None:
    place = node.place(_put(layout).uuid)
    steps = _steps(_script(node))
    folders = _position(steps, "mkdir", place.logs)
    files = [index for index, step in enumerate(steps) if step.guard]
    seed, console = _position(steps, "mcopy"), _position(steps, "mkfifo")
    record = _position(steps, "flock", "--nonblock", place.record)
    launch, wait = _position(steps, "sh", place.script), _position(steps, "timeout")
    written = [_position(steps, "install", f"{path}.new") for path in (place.launch, place.script)]
    order = [folders, *files, seed, console, record, *written, launch, wait, len(steps) - 1]
    assert order == sorted(order)
    assert steps[-1].words == ("echo", "web runs")
    # In which folder is nothing made before it is there?
    assert {
        str(path) for path in (place.folder / "disk", place.folder / "boot", place.run, layout.names, layout.ids)
    } <= (set(steps[folders].words))


def test_the_record_of_its_last_run_is_not_taken_for_this_ones(node: Node, layout: Layout) -> None:
    """Both have the script's token. Who runs already holds the lock, and keeps what is in it."""
    record = str(node.place(_put(layout).uuid).record)
    steps = _steps(_script(node))
    emptied = Step("", ("flock", "--nonblock", record, "truncate", "-s", "0", "--", record))
    assert [step for step in steps if "truncate" in step.words and record in step.words] == [emptied]


def test_one_that_runs_is_left_alone_before_anything_else(node: Node, layout: Layout) -> None:
    record = node.place(_put(layout).uuid).record
    head, _, _ = _script(node).partition("\nfi\n")
    code = [line for line in head.splitlines() if not line.startswith("#")]
    looks = code.index("done") + 1
    assert code[:4] == [
        "set -euo pipefail",
        "umask 077",
        "",
        f"for link in {layout.name('web')} {layout.id(1)}; do",
    ]
    assert code[looks:] == [
        f"if [ -e {record} ] && ! flock --shared --nonblock {record} true; then",
        "\techo 'web runs already'",
        "\texit 0",
    ]


def test_a_stopped_ones_port_is_free_and_a_running_ones_its_own(
    node: Node, layout: Layout, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    _put(layout)
    monkeypatch.setattr(start_module, "choose_port", lambda uuid: 22001)
    start(node, node.store.find("web"))
    monkeypatch.setattr(start_module, "choose_port", lambda uuid: 22002)
    assert "hostfwd=tcp:127.0.0.1:22001-:22" in _script(node)
    stop(node, node.store.find("web"))
    assert "hostfwd=tcp:127.0.0.1:22002-:22" in _script(node)


def test_it_says_how_to_enter_to_watch_and_to_stop_it(
    node: Node, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start_module, "choose_port", lambda uuid: 22001)
    place = node.place(_put(layout).uuid)
    text = _script(node)
    ways = re.findall(r"^# (To .*?): (.*)", text, re.MULTILINE)
    enter, watch, end = (shlex.split(command) for _, command in ways)
    assert enter[:3] == ["ssh", "-F", "none"]  # nobody's configuration leads elsewhere
    key = f'IdentityFile="{layout.keys / "id_ed25519"}"'
    assert {"-p", "22001", "HostName=127.0.0.1", key, "root", "web"} <= set(enter)
    assert watch == ["tail", "-f", str(place.console_log)]
    assert end == ["sh", str(place.script), "stop"]
    # Who runs it is told the same.
    told = [step.words[1] for step in _steps(text)[-4:-1]]
    assert [line.partition(": ")[2] for line in told] == [command for _, command in ways]


def test_by_vsock_where_it_has_no_net(
    node: Node, layout: Layout, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.have_cloud_hypervisor()
    _put(layout, nets=[], hypervisor="cloud-hypervisor")
    (enter,) = re.findall(r"^# To enter it.*?: (.*)", _script(node), re.MULTILINE)
    words = shlex.split(enter)
    assert words[-3:] == ["-l", "root", "web"]
    # Of virshle's files it needs none.
    assert not [word for word in words if "dial.py" in word]
    assert any(word.startswith("ProxyCommand=") for word in words)


def test_where_there_is_no_way_in_none_is_told(node: Node, layout: Layout) -> None:
    _put(layout, nets=[])
    assert "# To enter it" not in _script(node)
    assert "# To stop it" in _script(node)


def test_without_a_net_there_is_no_port(node: Node, layout: Layout) -> None:
    _put(layout, nets=[])
    text = _script(node)
    assert '"ssh_port": null' in text
    assert "hostfwd" not in text


@pytest.mark.parametrize("there", [True, False])
def test_it_is_the_same_whatever_is_there(
    there: bool, root: None, node: Node, layout: Layout, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is run elsewhere, or when all that is gone."""
    monkeypatch.setattr(account, "check_way", lambda *_, **__: None)
    if not there:
        host.users.clear()
    folder = layout.vm(_put(layout, boot=FIRMWARE).uuid)
    place = node.place(uuid_of("web"))
    if there:
        for path in (place.record, place.console_log, place.vmm_log, place.logs / "qemu.pid"):
            path.touch()
    else:
        (folder / "boot/efivars.fd").unlink()
    steps = _steps(_script(node))
    made = steps[_position(steps, "useradd")]
    assert made.guard == "! getent passwd virshle-vmm >/dev/null"
    assert made.words[-1] == "virshle-vmm"
    (joined,) = [step for step in steps if step.words[0] == "usermod"]
    assert joined.guard.startswith("getent group kvm")
    handed = steps[_position(steps, "chown")].words
    wanted = {
        folder / "disk/os",
        folder / "disk/data",
        folder / "boot/efivars.fd",
        place.seed,
        place.record,
        place.logs,
    }
    assert {str(path) for path in (*wanted, place.run, place.run / "console.in")} <= set(handed)
    assert not [word for word in handed if word.startswith(f"{place.logs}/")]
    variables = steps[_position(steps, "mv", folder / "boot/efivars.fd")].words
    assert variables[:4] == ("sh", "-c", '[ -e "$0" ] || "$@"', f"{folder}/boot/efivars.fd")


def test_as_ones_own_it_needs_no_account(node: Node, layout: Layout) -> None:
    _put(layout)
    text = _script(node)
    assert not any(word in text for word in ("useradd", "chown", "chmod", "setpriv", "getent"))


def test_where_there_is_no_unit_to_forget_it_goes_on(
    systemd: None, node: Node, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script ends at the first command that fails, and systemctl fails there."""
    monkeypatch.setattr(account, "check_way", lambda *_, **__: None)
    _put(layout)
    lines = _HEREDOC.sub("\n", _script(node)).splitlines()
    (forgotten,) = (line for line in lines if "reset-failed" in line)
    assert forgotten.endswith(" sh virshle-vm-web.service || [[ $? =~ ^(0|1)$ ]]")
    # Of no other command is a failure overlooked.
    assert sum("||" in line and "$?" in line for line in lines) == 1


@pytest.mark.parametrize("odd", ODD)
def test_odd_paths_stay_paths(odd: str, layout: Layout, tmp_path: Path, host: FakeHost) -> None:
    odd_paths = Paths(tmp_path / odd / "s", layout.paths.run / odd, layout.paths.config, layout.paths.origins)
    node = Node(odd_paths)
    for folder in node.layout.folders():
        folder.mkdir(parents=True)
    source = f"/nix/store/{odd}"
    disks = [{"name": "os", "file": f"disk/{odd}", "size": 1, "source": f"{source}/disk.raw"}]
    vm = make_vm(disks=disks, origin=ORIGIN | {"store_path": source})
    node.layout.vm(vm.uuid).mkdir()
    (node.layout.vm(vm.uuid) / "vm.json").write_text(vm.model_dump_json())
    text = _script(node)
    head, _, code = text.partition("set -euo pipefail\n")
    assert all(line.startswith("#") for line in head.splitlines())
    words = shlex.split(re.sub(r"^# .*\n", "", _HEREDOC.sub("\n", code), flags=re.MULTILINE))
    place = node.place(vm.uuid)
    target = place.folder / "disk" / odd
    part = target.with_name(f".{target.name}.part")
    link = node.layout.name("web")
    whole = {*map(str, (target, part, link, place.seed, place.record, place.run, place.script))}
    whole |= {f"{source}/disk.raw", f"{source}/kernel", f"{source}/initrd", f"{place.launch}.new"}
    assert whole <= set(words)
    assert words.count("touch") == 1  # of its record
    # Those in a command of another shell are quoted once more.
    (waited,) = (word for word in words if word.startswith("until "))
    assert str(place.record) in shlex.split(waited)


def test_what_the_definition_says_ends_no_text_early(node: Node, layout: Layout) -> None:
    _put(
        layout, users=[{"name": "eve", "authorized_keys": ["ssh-ed25519 EOF"]}], authorized_keys=["ssh-rsa $(touch x)"]
    )
    text = _script(node)
    assert "<<'EOF'\nssh-rsa $(touch x)\nEOF\n" in text
    assert {step.words[0] for step in _steps(text)}.isdisjoint({"EOF", "ssh-rsa", "ssh-ed25519"})


def test_a_kernel_of_which_nobody_knows_whence_it_came_is_no_script(node: Node, layout: Layout) -> None:
    _put(layout, origin={"source": "/a/file"})
    with pytest.raises(ConflictError, match="v does not know where web's kernel came from") as caught:
        _script(node)
    assert "copy it from the VM's folder" in caught.value.hint


def test_one_that_boots_by_firmware_needs_no_kernel(node: Node, layout: Layout) -> None:
    _put(layout, origin={"source": "/a/file"}, boot=FIRMWARE)
    assert "boot/kernel" not in _script(node)


def test_a_broken_vm_is_no_script(node: Node, layout: Layout) -> None:
    put_broken(layout, uuid_of("web"), name="web")
    with pytest.raises(ConflictError, match="web"):
        _script(node)


def test_what_cannot_run_here_is_no_script(node: Node, layout: Layout, host: FakeHost) -> None:
    _put(layout, hypervisor="cloud-hypervisor")
    with pytest.raises(ConfigError, match="cloud-hypervisor"):
        _script(node)


def test_to_write_it_touches_nothing(node: Node, layout: Layout) -> None:
    _put(layout)
    before = snapshot(layout.paths.state)
    _script(node)
    assert snapshot(layout.paths.state) == before
