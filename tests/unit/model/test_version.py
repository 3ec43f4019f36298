from __future__ import annotations

from typing import Any

import pytest

from virshle.model import version
from virshle.model.version import FIRST, UPGRADES, VERSION, NewerError, upgrade


def _grow(data: dict[str, Any]) -> dict[str, Any]:
    return {"memory": data["ram"] * 2}


@pytest.fixture
def older(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two schemas before the first: `mb`, then `ram`."""
    monkeypatch.setitem(UPGRADES, FIRST - 2, lambda data: {"ram": data["mb"] + 1})
    monkeypatch.setitem(UPGRADES, FIRST - 1, _grow)


def test_there_is_a_way_from_each_schema_to_this_one() -> None:
    assert set(UPGRADES) == set(range(FIRST, VERSION))


@pytest.mark.parametrize("data", [{"version": VERSION, "memory": 1}, {"version": "1", "x": 1}, {"version": True}])
def test_what_is_of_this_schema_or_says_of_none_is_left_as_it_is(data: dict[str, Any]) -> None:
    assert upgrade(data) is data


def test_one_that_names_no_schema_is_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "VERSION", FIRST)
    assert upgrade({"ram": 1}) == {"ram": 1}
    monkeypatch.setattr(version, "VERSION", FIRST + 1)
    monkeypatch.setitem(UPGRADES, FIRST, _grow)
    assert upgrade({"ram": 1}) == {"version": FIRST + 1, "memory": 2}


@pytest.mark.parametrize(
    ("data", "memory"), [({"version": FIRST - 1, "ram": 1}, 2), ({"version": FIRST - 2, "mb": 1}, 4)]
)
def test_an_old_one_becomes_one_of_now_step_by_step(older: None, data: dict[str, Any], memory: int) -> None:
    before = dict(data)
    assert upgrade(data) == {"version": VERSION, "memory": memory, "cloud_config": None}
    assert data == before


def test_a_newer_one_is_refused() -> None:
    with pytest.raises(NewerError, match=f"schema {VERSION + 1}, made by a newer virshle; this one reads up to"):
        upgrade({"version": VERSION + 1})


def test_what_no_virshle_wrote_is_refused(older: None) -> None:
    with pytest.raises(ValueError, match=r"schema -7, and no virshle ever wrote that schema"):
        upgrade({"version": -7})
    for data in ({}, {"ram": None}):
        with pytest.raises(ValueError, match="it says that it has schema 0, but its data does not fit"):
            upgrade({"version": 0, **data})
