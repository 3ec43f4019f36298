from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.support import make_vm
from tests.unit.vmm.test_driver import LAUNCH
from virshle.errors import ConfigError
from virshle.vmm import systemd
from virshle.vmm.driver import Machine, Place
from virshle.vmm.systemd import forget, start_unit, systemd_runs, unit_folder, unit_name, units

ODD = ["a b", 'a"b', "a'b", "a%nb", "a;b", '"', "é"]
IMPOSSIBLE = ["a:b", "a\\b", "a$HOME", "a\tb", "a\nb", "\\"]


def _machine(folder: str = "/s/vm/u", run: str = "/r/vm/u") -> Machine:
    launch = replace(LAUNCH, unit=unit_name("web"), user="virshle-vmm", hypervisor="cloud-hypervisor")
    return Machine(make_vm(), Place(Path(folder), Path(run)), launch)


def _properties(machine: Machine) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for word in start_unit(machine).argv:
        if word.startswith("--property="):
            name, _, value = word.removeprefix("--property=").partition("=")
            found.setdefault(name, []).append(value)
    return found


def _words(text: str) -> list[str]:
    """As systemd reads them (systemd.syntax(7), "Quoting"): a backslash escapes, quotes of both kinds join. What comes
    by D-Bus, as all of systemd-run's does, has no specifiers: a % is itself."""
    words: list[str] = []
    quote, word, escaped = "", None, False
    for letter in text:
        if escaped:
            word, escaped = (word or "") + letter, False
        elif letter == "\\":
            word, escaped = word or "", True
        elif quote:
            quote, word = ("", word) if letter == quote else (quote, (word or "") + letter)
        elif letter in "\"'":
            quote, word = letter, word or ""
        elif letter.isspace():
            words, word = [*words, word] if word is not None else words, None
        else:
            word = (word or "") + letter
    assert not quote
    assert not escaped
    return [*words, word] if word is not None else words


@pytest.fixture
def systemd_here(host: FakeHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(systemd, "_BOOTED", tmp_path)


@pytest.mark.parametrize(
    ("uid", "booted", "program", "runs"),
    [
        (0, True, True, True),
        (1000, True, True, False),
        (0, False, True, False),
        (0, True, False, False),
    ],
)
def test_only_root_asks_systemd_where_it_runs(
    uid: int, booted: bool, program: bool, runs: bool, host: FakeHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(systemd, "_BOOTED", tmp_path / "system")
    if booted:
        (tmp_path / "system").mkdir()
    if not program:
        (host.programs / "systemd-run").unlink()
    assert systemd_runs() is runs


def test_a_unit_runs_the_vms_script_under_its_name() -> None:
    argv = start_unit(_machine()).argv
    assert argv[0] == "systemd-run"
    assert "--unit=virshle-vm-web" in argv
    assert argv[argv.index("--") :] == ("--", "/bin/sh", "/s/vm/u/vmm.sh", "run")
    assert any(word.startswith("--description=VM web,") for word in argv)
    assert start_unit(_machine()).detached  # what it starts holds no lock of ours
    assert {"--pty", "--wait", "--scope", "--collect", "--remain-after-exit"}.isdisjoint(argv)


def test_a_unit_that_failed_is_forgotten_also_where_there_is_none() -> None:
    shell, _, script, _, unit = forget("virshle-vm-web").argv
    assert (shell, unit) == ("sh", "virshle-vm-web.service")
    # One that is ending, its VMM gone, could not be forgotten yet.
    wait, _, reset = script.rpartition("; ")
    assert 'while [ "$(systemctl show --property=ActiveState --value "$1")" = deactivating ]' in wait
    assert reset == 'systemctl reset-failed "$1"'
    assert forget("virshle-vm-web").ok == (0, 1)


def test_units_of_vms_are_told_by_name(systemd_here: None, host: FakeHost) -> None:
    host.answers["systemctl"] = (
        "virshle-vm-web.service loaded failed failed VM web, run by qemu for virshle\n"
        "\n"
        "virshle-vm-a.service.service loaded active running VM a.service\n"
        "virshle-vm-asked-for.service not-found inactive dead virshle-vm-asked-for.service\n"
    )
    assert units() == {"virshle-vm-web": "failed", "virshle-vm-a.service": "active"}
    ((program, verb, *words),) = host.calls
    assert (program, verb, words[-1]) == ("systemctl", "list-units", "virshle-vm-*")
    assert {"--all", "--plain", "--no-legend", "--full"} <= set(words)  # one whole name in each line
    host.answers["systemctl"] = ""
    assert units() == {}


def test_where_systemd_is_not_ours_to_ask_there_are_no_units(host: FakeHost) -> None:
    assert units() == {}
    assert host.calls == []


@pytest.mark.parametrize(
    ("said", "folder"), [("!/s/vm/u\n", Path("/s/vm/u")), ("/s/vm/u\n", Path("/s/vm/u")), ("\n", None)]
)
def test_a_unit_says_whose_folder_it_works_in(said: str, folder: Path | None, host: FakeHost) -> None:
    host.answers["systemctl"] = said
    assert unit_folder("virshle-vm-web") == folder
    assert host.calls[0][-1] == "virshle-vm-web.service"


def test_its_script_finds_the_programs_that_virshle_finds() -> None:
    """systemd's own PATH is another: on NixOS it has little more than coreutils."""
    words = start_unit(_machine()).argv
    assert "--setenv=PATH" in words[: words.index("--")]


def test_a_unit_waits_for_its_record_and_is_stopped_by_the_power_button() -> None:
    properties = _properties(_machine())
    assert [_words(line) for line in properties["ExecStartPost"]] == [["/bin/sh", "/s/vm/u/vmm.sh", "began"]]
    first, again = (_words(line) for line in properties["ExecStop"])
    assert first == ["-/bin/sh", "/s/vm/u/vmm.sh", "stop"]
    # Where the VM's folder was moved, its VMM works in it still.
    assert again[:2] == ["-/bin/sh", "-c"]
    assert "cd /proc/`printenv MAINPID`/cwd" in again[2]
    assert again[2].endswith("exec /bin/sh ./vmm.sh stop")
    # A daemon-reload reads the file of the unit, in which systemd has doubled each dollar once more.
    assert not [line for name in ("ExecStop", "ExecStartPost") for line in properties[name] if "$" in line]
    # A busy host takes its time, and systemd gives up first, with a reason.
    assert int(properties["TimeoutStartSec"][0]) >= 300
    assert start_unit(_machine()).timeout > int(properties["TimeoutStartSec"][0])
    assert properties["TimeoutStopSec"] == [str(systemd.STOP_SECONDS)]
    assert properties["KillMode"] == ["mixed"]  # its network's process goes last


def test_no_failure_of_the_power_button_is_a_power_cut() -> None:
    """systemd sends KillSignal as soon as what ExecStop says has ended, whether that helped or not
    (systemd.service(5)), and FinalKillSignal when the time is over, or to what a VMM leaves behind."""
    properties = _properties(_machine())
    assert properties["KillSignal"] == ["SIGCONT"]
    assert properties["TimeoutStopFailureMode"] == properties["TimeoutStartFailureMode"] == ["kill"]
    assert properties["FinalKillSignal"] == ["SIGTERM"]  # which passt and a VMM listen to
    # Neither is a folder that was moved a failure, nor a failure the end of trying.
    assert all(_words(line)[0].startswith("-") for line in properties["ExecStop"])
    assert all(word.startswith("-") for word in _words(*properties["BindPaths"]))
    assert properties["WorkingDirectory"][0].startswith("-")


def test_it_has_no_privilege_and_only_its_own_to_write() -> None:
    properties = _properties(_machine())
    assert properties["User"] == properties["Group"] == ["virshle-vmm"]
    assert properties["CapabilityBoundingSet"] == [""]
    assert properties["NoNewPrivileges"] == ["yes"]
    assert properties["DevicePolicy"] == ["closed"]
    assert properties["ProtectSystem"] == ["strict"]
    assert properties["UMask"] == ["0077"]
    assert _words(*properties["TemporaryFileSystem"]) == ["/s/vm:ro", "/r/vm:ro"]
    assert _words(*properties["BindPaths"]) == ["-/s/vm/u", "-/r/vm/u"]
    assert properties["WorkingDirectory"] == ["-/s/vm/u"]
    assert all(line.startswith("/dev/") and line.endswith(" rw") for line in properties.get("DeviceAllow", []))


@pytest.mark.parametrize("odd", ODD)
def test_odd_paths_stay_paths(odd: str) -> None:
    folder, run = f"/s/{odd}/vm/u", f"/r/{odd}/vm/u"
    properties = _properties(_machine(folder, run))
    assert _words(*properties["ExecStartPost"]) == ["/bin/sh", f"{folder}/vmm.sh", "began"]
    assert _words(properties["ExecStop"][0]) == ["-/bin/sh", f"{folder}/vmm.sh", "stop"]
    assert _words(*properties["TemporaryFileSystem"]) == [f"/s/{odd}/vm:ro", f"/r/{odd}/vm:ro"]
    assert _words(*properties["BindPaths"]) == [f"-{folder}", f"-{run}"]
    assert properties["WorkingDirectory"] == [f"-{folder}"]  # one path to systemd, never words
    assert start_unit(_machine(folder, run)).argv[-2:] == (f"{folder}/vmm.sh", "run")


@pytest.mark.parametrize("odd", IMPOSSIBLE)
def test_a_path_that_would_become_another_is_refused(odd: str) -> None:
    for folders in ((f"/s/{odd}/vm/u", "/r/vm/u"), ("/s/vm/u", f"/r/{odd}/vm/u")):
        with pytest.raises(ConfigError, match="a unit of systemd cannot have") as caught:
            start_unit(_machine(*folders))
        assert "VIRSHLE_STATE_DIR" in caught.value.hint
