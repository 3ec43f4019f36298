from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from virshle.config.paths import find_paths

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
    assert (paths.state, paths.run) == (Path("/s/virshle"), Path("/r/virshle"))
    assert paths.config == Path("/c/virshle/config.toml")


def test_without_xdg_variables_they_are_under_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _there(monkeypatch)
    paths = find_paths({}, root=False)
    home = tmp_path / "home"
    assert paths.state == home / ".local/state/virshle"
    assert paths.run == home / ".local/state/virshle/run"
    assert paths.config == home / ".config/virshle/config.toml"
    assert paths.origins["run"] == "there is no XDG_RUNTIME_DIR"


@pytest.mark.parametrize(
    ("variable", "of"),
    [
        ("XDG_STATE_HOME", lambda paths: paths.state),
        ("XDG_CONFIG_HOME", lambda paths: paths.config),
        pytest.param(
            "XDG_RUNTIME_DIR",
            lambda paths: paths.run,
        ),
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
