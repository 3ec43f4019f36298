from __future__ import annotations

import grp
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_subprocess import FakeProcess

from virshle.errors import ConfigError
from virshle.nix import find_nix, host

FEATURES = ("--extra-experimental-features", "nix-command flakes")
PRIVATE = Path("/state/nix")

Situation = Callable[..., None]


@pytest.fixture
def situation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fp: FakeProcess) -> Situation:
    """Sets who we are and what of Nix is there."""

    def set_to(
        *,
        version: str = "nix (Nix) 2.18.1",
        uid: int = 0,
        daemon: str = "",
        group: bool = True,
        ours: bool = False,
        namespaces: bool = True,
    ) -> None:
        program = tmp_path / "bin" / "nix"
        program.parent.mkdir()
        for path in (program, program.with_name("unshare")):
            path.write_text("")
            path.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent))
        fp.register([str(program), "--version"], stdout=version)
        fp.register(["unshare", "--user", "true"], returncode=0 if namespaces else 1)
        socket = tmp_path / "socket"
        if daemon:
            socket.write_text("")
        writable = {str(socket): daemon == "ours", "/nix/store": ours, "/nix/var/nix/db": ours}
        monkeypatch.setattr(host, "_DAEMON", socket)
        monkeypatch.setattr(os, "geteuid", lambda: uid)
        real = os.access
        monkeypatch.setattr(
            os, "access", lambda path, mode: writable[str(path)] if str(path) in writable else real(path, mode)
        )

        def getgrnam(name: str) -> object:
            if not group:
                raise KeyError(name)
            return object()

        monkeypatch.setattr(grp, "getgrnam", getgrnam)

    return set_to


def test_a_missing_nix_is_told_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("virshle.nix.host.find_program", lambda _: None)
    with pytest.raises(ConfigError, match="nix is not on this machine") as caught:
        find_nix(PRIVATE)
    assert "nix-bin" in caught.value.hint


@pytest.mark.parametrize(("said", "shown"), [("nix (Nix) 2.3.16", "2.3.16"), ("nonsense", "0")])
def test_an_old_nix_is_refused(said: str, shown: str, situation: Situation) -> None:
    situation(version=said)
    with pytest.raises(ConfigError, match=f"nix {shown} is too old"):
        find_nix(PRIVATE)


@pytest.mark.parametrize(
    ("said", "version"),
    [("nix (Nix) 2.4", (2, 4)), ("nix (Lix, like Nix) 2.91.1\n", (2, 91, 1)), ("nix (Nix) 2.30.0pre2025", (2, 30, 0))],
)
def test_a_new_enough_one_is_taken(said: str, version: tuple[int, ...], situation: Situation) -> None:
    situation(version=said)
    assert find_nix(PRIVATE).version == version


@pytest.mark.parametrize("uid", [0, 1000])
def test_a_daemon_that_we_may_use_builds(uid: int, situation: Situation) -> None:
    situation(uid=uid, daemon="ours", group=False)
    nix = find_nix(PRIVATE)
    assert (nix.store, nix.env, nix.options) == ("the nix daemon", {}, FEATURES)


@pytest.mark.parametrize(("group", "more"), [(True, ()), (False, ("--option", "build-users-group", ""))])
def test_root_without_daemon_builds_itself_also_without_build_users(
    group: bool, more: tuple[str, ...], situation: Situation
) -> None:
    situation(group=group)
    nix = find_nix(PRIVATE)
    assert (nix.store, nix.env, nix.options) == ("/nix/store", {}, (*FEATURES, *more))


def test_a_user_who_owns_the_store_builds_in_it(situation: Situation) -> None:
    situation(uid=1000, ours=True)
    nix = find_nix(PRIVATE)
    assert (nix.store, nix.env) == ("/nix/store", {})


@pytest.mark.parametrize("daemon", ["", "of others"])
def test_anybody_else_gets_a_store_of_their_own(daemon: str, situation: Situation) -> None:
    situation(uid=1000, daemon=daemon)
    nix = find_nix(PRIVATE)
    assert nix.store.startswith("/state/nix ")
    assert nix.env == {
        "NIX_STORE_DIR": "/state/nix/store",
        "NIX_STATE_DIR": "/state/nix/var/nix",
        "NIX_LOG_DIR": "/state/nix/var/log/nix",
        "NIX_CONF_DIR": "/state/nix/etc/nix",
    }


@pytest.mark.parametrize(("namespaces", "more"), [(True, ()), (False, ("--option", "sandbox", "false"))])
def test_where_there_can_be_no_sandbox_it_is_off_and_said(
    namespaces: bool, more: tuple[str, ...], situation: Situation, capsys: pytest.CaptureFixture[str]
) -> None:
    situation(namespaces=namespaces)
    assert find_nix(PRIVATE).options == (*FEATURES, *more)
    assert ("without its sandbox" in capsys.readouterr().err) is bool(more)


def test_the_daemons_own_sandbox_is_left_as_it_is(situation: Situation, fp: FakeProcess) -> None:
    situation(daemon="ours", namespaces=False)
    assert find_nix(PRIVATE).options == FEATURES
    assert ["unshare", "--user", "true"] not in [list(call) for call in fp.calls]
