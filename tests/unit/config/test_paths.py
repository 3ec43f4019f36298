from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from virshle.config.paths import find_paths
from virshle.errors import ConfigError

SYSTEM = Path("/etc/virshle/config.toml")


def test_roots_are_the_systems_folders() -> None:
    paths = find_paths({"XDG_STATE_HOME": "/x", "HOME": "/root"}, root=True)
    assert (paths.state, paths.run, paths.config) == (Path("/var/lib/virshle"), Path("/run/virshle"), SYSTEM)
    assert set(paths.origins.values()) == {"default for root"}


def _there(monkeypatch: pytest.MonkeyPatch, *files: Path) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: path in files)


def test_anybody_elses_are_the_xdg_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    _there(monkeypatch)
    paths = find_paths({"XDG_STATE_HOME": "/s", "XDG_CONFIG_HOME": "/c", "XDG_RUNTIME_DIR": "/r"}, root=False)
    # Not in XDG_RUNTIME_DIR, which cron does not have and a logout empties.
    assert (paths.state, paths.run) == (Path("/s/virshle"), Path("/s/virshle/run"))
    assert paths.former == (Path("/r/virshle"), Path(f"/run/user/{os.getuid()}/virshle"))
    assert paths.config == Path("/c/virshle/config.toml")


def test_without_xdg_variables_they_are_under_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _there(monkeypatch)
    paths = find_paths({}, root=False)
    home = tmp_path / "home"
    assert paths.state == home / ".local/state/virshle"
    assert paths.run == home / ".local/state/virshle/run"
    assert paths.config == home / ".config/virshle/config.toml"
    assert paths.origins["run"] == "beside the state"
    assert paths.former == (Path(f"/run/user/{os.getuid()}/virshle"),)


@pytest.mark.parametrize(
    ("variable", "of"),
    [
        ("XDG_STATE_HOME", lambda paths: paths.state),
        ("XDG_CONFIG_HOME", lambda paths: paths.config),
        ("XDG_RUNTIME_DIR", lambda paths: paths.former),
    ],
)
def test_a_relative_path_in_an_xdg_variable_is_ignored(variable: str, of: Callable[..., Path]) -> None:
    assert of(find_paths({variable: "some/where"}, root=False)) == of(find_paths({}, root=False))


@pytest.mark.parametrize(
    ("own", "system", "chosen"),
    [(True, True, "own"), (False, True, "system"), (True, False, "own"), (False, False, "own")],
)
def test_an_own_file_is_taken_before_the_systems(
    own: bool, system: bool, chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "home/.config/virshle/config.toml"
    _there(monkeypatch, *[path for path, there in ((mine, own), (SYSTEM, system)) if there])
    assert find_paths({}, root=False).config == (mine if chosen == "own" else SYSTEM)


@pytest.mark.parametrize("root", [True, False])
def test_virshles_own_variables_move_each(root: bool, tmp_path: Path) -> None:
    environ = {"VIRSHLE_STATE_DIR": "~/s", "VIRSHLE_RUN_DIR": "/r", "VIRSHLE_CONFIG": "/c.toml"}
    paths = find_paths(environ, root=root)
    assert (paths.state, paths.run, paths.config) == (tmp_path / "home/s", Path("/r"), Path("/c.toml"))
    assert paths.origins == {
        "state": "VIRSHLE_STATE_DIR",
        "run": "VIRSHLE_RUN_DIR",
        "config": "VIRSHLE_CONFIG",
    }


def test_an_empty_variable_moves_nothing() -> None:
    assert find_paths({"VIRSHLE_STATE_DIR": ""}, root=True).state == Path("/var/lib/virshle")


@pytest.mark.parametrize("variable", ["XDG_STATE_HOME", "VIRSHLE_STATE_DIR"])
def test_sockets_are_where_the_state_is_whatever_moved_it(variable: str, tmp_path: Path) -> None:
    paths = find_paths({variable: "/s", "XDG_RUNTIME_DIR": str(tmp_path)}, root=False)
    assert paths.run == paths.state / "run"


def test_where_that_is_too_long_for_sockets_the_sessions_folder_is_taken() -> None:
    long = "/" + "x" * 90
    with tempfile.TemporaryDirectory(dir="/tmp") as session:
        paths = find_paths({"XDG_STATE_HOME": long, "XDG_RUNTIME_DIR": session}, root=False)
        assert paths.run == Path(session, "virshle")
        assert paths.origins["run"] == f"{long}/virshle/run is too long for sockets"
        assert paths.run not in paths.former
    # There is none: who makes a VM is told what to set.
    assert find_paths({"XDG_STATE_HOME": long, "XDG_RUNTIME_DIR": "/no"}, root=False).run == Path(long, "virshle/run")


@pytest.mark.parametrize("home", ["", "relative", None])
def test_a_home_that_is_none_is_not_taken(home: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if home is None:
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", home)
    assert find_paths({}, root=False).state == Path(pwd.getpwuid(os.getuid()).pw_dir, ".local/state/virshle")

    def unknown(_: int) -> object:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(ConfigError, match="your home folder is not known") as caught:
        find_paths({}, root=False)
    assert caught.value.hint.startswith("export HOME=/")
