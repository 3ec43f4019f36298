from __future__ import annotations

from typing import Any

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.service.conftest import Guest
from tests.unit.support import make_vm, put_broken, put_vm, uuid_of
from virshle.errors import NotFoundError, UsageError
from virshle.service.node import Node
from virshle.service.select import Selection, select
from virshle.store import Layout

ACCOUNT = uuid_of("account")


@pytest.fixture(autouse=True)
def there(layout: Layout, host: FakeHost, guest: Guest) -> None:
    put_vm(layout, make_vm("web", 1, account=ACCOUNT))
    put_vm(layout, make_vm("db", 2))
    put_vm(layout, make_vm("mail", 3, account=ACCOUNT))
    put_broken(layout, uuid_of("bad"), name="bad")
    host.run_vm(layout, uuid_of("db"))


def _names(node: Node, *words: str, needed: bool = True, **selection: Any) -> list[str]:
    return [entry.name for entry in select(node, Selection(words, **selection), needed=needed)]


def test_words_are_names_numbers_or_uuids_in_their_order(node: Node) -> None:
    assert _names(node, str(uuid_of("mail")), "1", "db") == ["mail", "web", "db"]


def test_a_vm_named_twice_is_meant_once(node: Node) -> None:
    assert _names(node, "web", "1", str(uuid_of("web")), names=["web"]) == ["web"]


def test_selectors_of_the_first_virshle_work(node: Node) -> None:
    assert _names(node, names=["web"], ids=["2"], uuids=[str(uuid_of("mail"))]) == ["web", "db", "mail"]
    with pytest.raises(NotFoundError):
        _names(node, names=["1"])


def test_one_unknown_word_refuses_all(node: Node) -> None:
    with pytest.raises(NotFoundError, match="no VM named 'wbe'"):
        _names(node, "web", "wbe", "db")


@pytest.mark.parametrize(
    ("state", "names"),
    [
        ("running", ["db"]),
        ("stopped", ["web", "mail"]),
        ("broken", ["bad"]),
        ("paused", []),
        ("created", ["web", "mail"]),
        ("not_created", ["web", "mail"]),
        ("shutdown", ["web", "mail"]),
    ],
)
def test_vms_are_selected_by_state_also_by_the_first_virshles(state: str, names: list[str], node: Node) -> None:
    assert _names(node, state=state) == names


def test_the_vmm_itself_says_which_state(node: Node, guest: Guest) -> None:
    guest.status = "paused"
    assert (_names(node, state="running"), _names(node, state="paused")) == ([], ["db"])


def test_vms_are_selected_by_account(node: Node) -> None:
    assert _names(node, account=str(ACCOUNT).upper()) == ["web", "mail"]
    assert _names(node, account=str(uuid_of("none"))) == []
    assert _names(node, account=str(ACCOUNT), state="running") == []


def test_all_means_every_one(node: Node) -> None:
    assert _names(node, everything=True) == ["web", "db", "mail", "bad"]


def test_an_empty_selection_never_means_every_vm(node: Node) -> None:
    with pytest.raises(UsageError, match="name at least one VM"):
        _names(node)
    assert _names(node, needed=False) == ["web", "db", "mail", "bad"]  # to list them is harmless


@pytest.mark.parametrize("selection", [{"account": ""}, {"state": ""}, {"account": "", "state": ""}])
def test_nor_does_an_empty_account_or_state(selection: dict[str, Any], node: Node) -> None:
    try:
        found = _names(node, **selection)
    except UsageError:
        return
    assert found == []


@pytest.mark.parametrize("selection", [{"state": "running"}, {"account": str(ACCOUNT)}, {"everything": True}])
def test_words_and_a_bulk_selection_are_not_mixed(selection: dict[str, Any], node: Node) -> None:
    with pytest.raises(UsageError, match="not both"):
        _names(node, "web", **selection)


def test_an_unknown_state_is_told_with_those_there_are(node: Node) -> None:
    with pytest.raises(UsageError, match="no state 'runing'") as caught:
        _names(node, state="runing")
    assert "running, paused, starting, stopped" in caught.value.hint
