from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virshle.model.names import check_file_name, check_name, invent_name, mac_address


@pytest.mark.parametrize("name", ["a", "web", "db-2", "0a", "x" * 63, "a--b", "1-1"])
def test_a_host_name_is_a_name(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "not a host name"),
        ("-a", "not a host name"),
        ("a-", "not a host name"),
        ("Web", "not a host name"),
        ("a_b", "not a host name"),
        ("a.b", "not a host name"),
        ("../x", "not a host name"),
        ("a/b", "not a host name"),
        ("a b", "not a host name"),
        ("web\n", "not a host name"),
        ("é", "not a host name"),
        ("x" * 64, "not a host name"),
        ("7", "has only digits"),
        ("007", "has only digits"),
        ("550e8400-e29b-41d4-a716-446655440000", "is a uuid"),
        ("550e8400e29b41d4a716446655440000", "is a uuid"),
    ],
)
def test_another_is_refused_with_the_reason(name: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_name(name)


@given(st.text())
def test_no_accepted_name_leaves_its_folder_or_is_a_number(name: str) -> None:
    try:
        check_name(name)
    except ValueError:
        return
    assert "/" not in name
    assert not name.startswith(("-", "."))
    assert not name.isdecimal()
    assert name.isascii()
    assert name.isprintable()


@pytest.mark.parametrize("name", ["os", "A.b_c-1", "x" * 64])
def test_a_plain_file_name_is_accepted(name: str) -> None:
    assert check_file_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", ".seed", "-x", "a/b", "../os", "a b", "a,b", "os\n", "x" * 65, "ö"])
def test_a_file_name_that_could_leave_or_hide_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a plain name"):
        check_file_name(name)


def test_an_invented_name_is_a_valid_one() -> None:
    for _ in range(200):
        check_name(invent_name(()))


def test_an_invented_name_is_never_a_taken_one() -> None:
    taken: set[str] = set()
    for _ in range(4000):  # more than there are pairs of words
        name = invent_name(taken)
        assert name not in taken
        check_name(name)
        taken.add(name)


class _AllPairs:
    """Every name without a number is taken."""

    def __contains__(self, name: object) -> bool:
        return not str(name)[-1].isdigit()


def test_when_all_pairs_are_taken_a_number_is_put_behind() -> None:
    assert invent_name(_AllPairs()).rpartition("-")[2].isdigit()


_VM = uuid.UUID("550e8400-e29b-41d4-a716-446655440000")


@given(st.uuids(), st.text())
def test_a_mac_is_unicast_and_locally_administered(vm: uuid.UUID, net: str) -> None:
    parts = mac_address(vm, net).split(":")
    assert len(parts) == 6
    assert all(len(part) == 2 for part in parts)
    assert int(parts[0], 16) & 0b11 == 0b10


def test_a_mac_is_always_the_same() -> None:
    # A change of it would be a new NIC to every guest that is there.
    assert mac_address(_VM, "main") == "02:6e:4f:3e:37:f3"


def test_every_net_of_every_vm_has_its_own_mac() -> None:
    addresses = {mac_address(uuid.UUID(int=vm), net) for vm in range(50) for net in ("main", "other", "net0")}
    assert len(addresses) == 150
