from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path
from types import SimpleNamespace

import pytest

from virshle.errors import ConfigError, ConflictError
from virshle.plan import Run, Step
from virshle.vmm import account
from virshle.vmm.account import ACCOUNT, account_steps, as_user, hand_over, may_open, own_path, vmm_user, ways_above

UID, GID, KVM = 54321, 54322, 54323
"""Of the account; nothing that a test makes is its own."""


class Users:
    """Of the machine: the account and its groups, or not yet."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.there = True
        self.groups = [GID, KVM]
        self.kvm = True
        monkeypatch.setattr(pwd, "getpwnam", self._user)
        monkeypatch.setattr(grp, "getgrnam", self._group)
        monkeypatch.setattr(grp, "getgrall", lambda: [self._group("kvm")] if self.kvm else [])
        monkeypatch.setattr(os, "getgrouplist", lambda user, gid: self.groups)

    def _user(self, name: str) -> SimpleNamespace:
        if name != ACCOUNT or not self.there:
            raise KeyError(name)
        return SimpleNamespace(pw_uid=UID, pw_gid=GID)

    def _group(self, name: str) -> SimpleNamespace:
        if name != "kvm" or not self.kvm:
            raise KeyError(name)
        return SimpleNamespace(gr_name="kvm", gr_gid=KVM, gr_mem=[])


@pytest.fixture(autouse=True)
def users(monkeypatch: pytest.MonkeyPatch) -> Users:
    return Users(monkeypatch)


@pytest.fixture
def open_folder() -> Path:
    """That anybody may enter, as are those above it."""
    folder = Path(os.environ["VIRSHLE_RUN_DIR"])
    folder.chmod(0o711)
    return folder


def _commands(steps: list[Step]) -> list[tuple[str, ...]]:
    return [step.command.argv for step in steps if isinstance(step, Run)]


@pytest.mark.parametrize(("uid", "user"), [(0, ACCOUNT), (1000, None), (65534, None)])
def test_only_roots_vmms_run_as_another(uid: int, user: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert vmm_user() == user


def test_the_account_is_made_once(users: Users) -> None:
    assert account_steps(ACCOUNT) == []
    assert account_steps(None) == []
    users.there = False
    ((program, *words),) = _commands(account_steps(ACCOUNT))
    assert (program, words[-1]) == ("useradd", ACCOUNT)
    assert {"--system", "--user-group", "--no-create-home", "/usr/sbin/nologin"} <= set(words)
    assert words[words.index("--groups") + 1] == "kvm"
    users.kvm = False
    assert "--groups" not in _commands(account_steps(ACCOUNT))[0]


def test_one_that_was_made_without_the_group_joins_it_once(users: Users) -> None:
    users.groups = [GID]
    assert _commands(account_steps(ACCOUNT)) == [("usermod", "--append", "--groups", "kvm", ACCOUNT)]
    users.groups = [GID, KVM]
    assert account_steps(ACCOUNT) == []
    users.groups, users.kvm = [GID], False
    assert account_steps(ACCOUNT) == []


def test_where_nothing_is_known_the_account_is_made(users: Users) -> None:
    for there in (True, False):
        users.there = there
        ((program, *_),) = _commands(account_steps(ACCOUNT, blind=True))
        assert program == "useradd"
    assert account_steps(None, blind=True) == []


@pytest.mark.parametrize(
    ("mode", "owner", "group", "may"),
    [
        (0o666, 0, 0, True),
        (0o660, 0, KVM, True),
        (0o660, 0, GID, True),
        (0o660, 0, 0, False),
        (0o640, 0, KVM, False),
        (0o620, 0, KVM, False),
        (0o606, 0, KVM, False),  # the group's class decides, though others may
        (0o604, 0, 0, False),
        (0o600, UID, 0, True),
        (0o400, UID, 0, False),
        (0o066, UID, KVM, False),
        (0o000, 0, 0, False),
    ],
)
def test_a_device_may_be_opened_as_the_kernel_says(
    mode: int, owner: int, group: int, may: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = SimpleNamespace(st_mode=0o020000 | mode, st_uid=owner, st_gid=group)
    monkeypatch.setattr(Path, "stat", lambda self: status)
    assert may_open(ACCOUNT, Path("/dev/kvm")) is may


@pytest.mark.parametrize("there", [True, False])
def test_the_group_that_its_next_start_puts_it_in_counts(
    there: bool, users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = SimpleNamespace(st_mode=0o020660, st_uid=0, st_gid=KVM)
    monkeypatch.setattr(Path, "stat", lambda self: status)
    users.there, users.groups = there, [GID]
    assert may_open(ACCOUNT, Path("/dev/kvm"))
    users.kvm = False
    assert not may_open(ACCOUNT, Path("/dev/kvm"))


def test_for_ones_own_vmms_the_kernel_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Path, int]] = []

    def access(path: Path, mode: int) -> bool:
        asked.append((path, mode))
        return True

    monkeypatch.setattr(os, "access", access)
    assert may_open(None, Path("/dev/kvm"))
    assert asked == [(Path("/dev/kvm"), os.R_OK | os.W_OK)]


def test_what_virshle_makes_above_its_folders_may_be_passed(open_folder: Path) -> None:
    state = open_folder / "a/b/state"
    (step,) = ways_above(ACCOUNT, state)
    assert _commands([step]) == [("mkdir", "-p", "-m", "0711", "--", str(open_folder / "a"), str(open_folder / "a/b"))]
    assert ways_above(None, state) == []
    assert ways_above(ACCOUNT, open_folder / "state") == []


def test_nothing_is_handed_to_oneself(tmp_path: Path) -> None:
    assert hand_over(None, ways=[tmp_path], made=[tmp_path], things=[tmp_path]) == []


def test_only_what_is_needed_is_handed_over(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, passable, missing = (open_folder / name for name in ("closed", "passable", "missing"))
    closed.mkdir(mode=0o700)
    passable.mkdir(mode=0o711)
    ours, made = passable / "ours", passable / "made"
    ours.touch()
    ways = [closed, passable, missing]
    steps = hand_over(ACCOUNT, ways=ways, made=[made], things=[ours, passable / "later"])
    assert _commands(steps) == [
        ("chmod", "0711", "--", str(closed), str(missing)),
        (
            *("chown", "--no-dereference", f"{ACCOUNT}:{ACCOUNT}", "--"),
            *(str(made), str(ours), str(passable / "later")),
        ),
    ]
    monkeypatch.setattr(account, "_uid", lambda _: ours.stat().st_uid)
    assert _commands(hand_over(ACCOUNT, ways=[passable], made=[], things=[ours])) == []
    # What was made just before is root's, whatever lay there when this was planned.
    made.touch()
    assert _commands(hand_over(ACCOUNT, ways=[], made=[made], things=[ours])) == [
        ("chown", "--no-dereference", f"{ACCOUNT}:{ACCOUNT}", "--", str(made))
    ]


def test_to_an_account_that_is_not_there_yet_all_is_handed(open_folder: Path, users: Users) -> None:
    users.there = False
    thing = open_folder / "thing"
    thing.touch()
    assert str(thing) in _commands(hand_over(ACCOUNT, ways=[], made=[], things=[thing]))[0]


def test_a_link_is_handed_over_itself(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = open_folder / "link"
    link.symlink_to("nowhere")
    ((*_, last),) = _commands(hand_over(ACCOUNT, ways=[], made=[], things=[link]))
    assert last == str(link)
    monkeypatch.setattr(account, "_uid", lambda _: link.lstat().st_uid)
    assert hand_over(ACCOUNT, ways=[], made=[], things=[link]) == []


def test_a_file_that_is_elsewhere_too_is_not_given_away(open_folder: Path) -> None:
    """A VMM may make a hard link to any file in a folder of its own (where fs.protected_hardlinks is 0)."""
    secret, link = open_folder / "shadow", open_folder / "vmm.log"
    secret.touch()
    link.hardlink_to(secret)
    with pytest.raises(ConflictError, match="has another name too") as caught:
        hand_over(ACCOUNT, ways=[], made=[], things=[link])
    assert f"-samefile {link}" in caught.value.hint
    hand_over(ACCOUNT, ways=[], made=[], things=[link], blind=True)  # there is nothing yet


def test_a_closed_folder_above_that_is_not_ours_to_open_is_told(open_folder: Path) -> None:
    home = open_folder / "home"
    home.mkdir(mode=0o700)
    state = home / "state"
    with pytest.raises(ConfigError) as caught:
        hand_over(ACCOUNT, ways=[state, state / "vm"], made=[], things=[])
    assert caught.value.message.startswith(f"{home} may not be entered by {ACCOUNT}")
    assert "VIRSHLE_STATE_DIR" in caught.value.hint
    assert caught.value.hint.endswith(f"chmod o+x {home}")
    home.chmod(0o701)
    assert _commands(hand_over(ACCOUNT, ways=[state, state / "vm"], made=[], things=[]))[0][3:] == (
        str(state),
        str(state / "vm"),
    )


def test_a_program_is_run_by_its_own_path(open_folder: Path) -> None:
    """As a Nix profile is a link in a home that is closed."""
    program, profile = open_folder / "store/qemu", open_folder / "home/profile"
    program.parent.mkdir()
    program.touch()
    profile.parent.mkdir(mode=0o700)
    profile.symlink_to(program.parent)
    assert own_path(str(profile / "qemu"), ACCOUNT) == str(program)
    program.parent.chmod(0o700)
    with pytest.raises(ConfigError, match="may not be entered") as caught:
        own_path(str(profile / "qemu"), ACCOUNT)
    assert caught.value.hint == f"install qemu for everybody, or: chmod o+x {program.parent}"
    assert own_path(str(profile / "qemu"), None) == str(program)


def test_its_own_folder_above_is_no_obstacle(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = open_folder / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setattr(account, "_uid", lambda _: home.stat().st_uid)
    assert hand_over(ACCOUNT, ways=[home / "vm"], made=[], things=[])


def test_it_runs_without_any_privilege_and_cannot_get_one() -> None:
    assert as_user(None) == []
    words = as_user(ACCOUNT)
    assert words[:3] == ["setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}"]
    assert {"--init-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"} <= set(words)
    assert words[-1] == "--"
