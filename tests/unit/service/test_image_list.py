from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.service.conftest import FakeNix
from tests.unit.support import make_vm, put_vm
from virshle.exec import Command, Result
from virshle.service.image import build
from virshle.service.image_list import image_rows
from virshle.service.node import Node
from virshle.store import Layout


@pytest.fixture
def node(images: Node) -> Node:
    return images


def _current(node: Node) -> Any:
    return next(row["current"] for row in image_rows(node, check=True) if row["name"] == "flake")


def test_only_who_wants_to_know_has_the_source_looked_at(node: Node, nix: FakeNix) -> None:
    assert _current(node) is None
    build(node, "flake")
    nix.asked.clear()
    assert [row["current"] for row in image_rows(node)] == [None] * 4
    assert nix.asked == []


def test_the_very_same_flake_is_current_and_not_evaluated(node: Node, nix: FakeNix) -> None:
    build(node, "flake")
    nix.asked.clear()
    assert _current(node) == "current"
    assert [("metadata" in argv, "--refresh" in argv) for argv in nix.asked] == [(True, True)]


def test_a_flake_that_moved_is_outdated_where_it_gives_something_else(node: Node, nix: FakeNix) -> None:
    build(node, "flake")
    nix.revision = "f" * 40
    assert _current(node) == "current"
    nix.build("second")
    assert _current(node) == "outdated"
    build(node, "flake")
    assert _current(node) == "current"


def test_a_source_that_cannot_be_looked_at_is_the_problem_of_one_row(
    node: Node, nix: FakeNix, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(node, "flake")

    def fail(command: Command, *_: object, **__: object) -> Result:
        return Result(command, 1, "", "", 0.1)

    monkeypatch.setattr("virshle.exec.follow", fail)
    rows = {row["name"]: row for row in image_rows(node, check=True)}
    assert "failed with exit code 1" in rows["flake"]["problem"]
    assert (rows["flake"]["built"], rows["flake"]["current"], rows["file"]["problem"]) == (True, None, None)


def test_rows_tell_what_is_built_how_large_and_for_whom(node: Node, nix: FakeNix, layout: Layout) -> None:
    build(node, "flake")
    put_vm(layout, make_vm(origin={"image": "flake", "source": ".#x"}))
    rows = {row["name"]: row for row in image_rows(node)}
    assert (rows["flake"]["built"], rows["flake"]["virtual"], rows["flake"]["used_by"]) == (True, 1024, "web")
    assert (rows["file"]["built"], rows["file"]["virtual"]) == (True, 512)
    assert (rows["tiny"]["built"], rows["tiny"]["size"], rows["tiny"]["problem"]) == (False, None, None)


def test_a_row_of_an_image_with_a_problem_tells_it(node: Node, tmp_path: Path) -> None:
    (tmp_path / "file.raw").unlink()
    rows = {row["name"]: row for row in image_rows(node)}
    assert "there is no disk image" in rows["file"]["problem"]
