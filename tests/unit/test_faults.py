"""What the fault campaign takes for right, and what for a violation."""

from __future__ import annotations

import pytest

from tests.faults.operations import BUILT, IMPORTED, OPERATIONS, Case, End, States

OPERATION = {one.name: one for one in OPERATIONS}
LINK, COMMIT, SYNC = "take the name", "commit: the VM is there, whole", "write all of it to the disk"
CREATE = [LINK] * 3 + [SYNC] + [COMMIT] * 3 + [SYNC]
"""The steps of three: 5, 6 and 7 are their commits."""
KILLED = -9


def webs(*numbers: int) -> States:
    return {f"web-{number}": "stopped" for number in numbers}


def end_of(kind: str, step: int, after: States, code: int = KILLED) -> tuple[Case, End]:
    """Of the creation of three VMs. A killed one begins nothing more, nor does one whose step has failed."""
    case = Case(OPERATION["create 3"], kind, step)
    # Those that go side by side are begun before the first of them is over.
    begun = CREATE[: max(step, 7) if kind == "kill after" and step >= 5 else step]
    return case, case.end({}, after, code, begun)


@pytest.mark.parametrize(
    ("kind", "step", "there", "right"),
    [
        ("kill before", 5, (), True),
        ("kill before", 5, (1,), False),  # no commit was begun
        ("kill before", 6, (), True),
        ("kill before", 6, (1,), True),
        ("kill before", 6, (1, 2), False),
        ("kill before", 8, (1, 2), False),  # all three were over
        ("kill before", 8, (1, 2, 3), True),
        ("kill after", 4, (1,), False),
        ("kill after", 5, (), False),
        ("kill after", 5, (1,), True),
        ("kill after", 5, (1, 2, 3), True),
        ("kill after", 7, (1, 2), False),
        ("read-only", 5, (1,), False),
        ("read-only", 7, (1,), True),
        ("read-only", 8, (1,), False),
        ("power cut", 5, (1,), False),
        ("power cut", 8, (), True),  # nothing was said yet
        ("power cut", 8, (3,), True),
        ("I/O error", 8, (2,), True),
        ("Ctrl-C", 6, (1,), False),  # undone
        ("fails", 6, (), True),
        ("lies", 8, (1, 2), False),
    ],
)
def test_some_of_several_are_there_only_where_their_commit_was_begun(
    kind: str, step: int, there: tuple[int, ...], right: bool
) -> None:
    code = KILLED if kind.startswith(("kill", "power")) else 6
    case, end = end_of(kind, step, webs(*there), code)
    assert case.leaves(end) is right


@pytest.mark.parametrize("kind", ["kill after", "power cut", "read-only", "fails"])
def test_what_was_acknowledged_is_there(kind: str) -> None:
    for there in ((), (1,), (1, 2), (1, 2, 3)):
        case, end = end_of(kind, 9, webs(*there), 0)
        assert case.leaves(end) is (len(there) == 3)


@pytest.mark.parametrize(
    ("there", "now", "code", "right"),
    [
        ((), (1, 2, 3), 0, True),
        ((), (), 5, False),  # refused, and nothing is there
        ((1,), (1,), 5, True),
        ((1,), (1, 2), 5, True),  # by what the killed one had begun
        ((1,), (), 5, False),
        ((1,), (1, 2), 0, False),
        ((1,), (1,), 6, False),
    ],
)
def test_a_second_try_makes_all_or_is_refused_for_those_there(
    there: tuple[int, ...], now: tuple[int, ...], code: int, right: bool
) -> None:
    case, end = end_of("kill before", 7, webs(*there))
    assert case.accepts(end, webs(*now), code) is right


def test_where_all_was_undone_the_second_try_makes_all() -> None:
    case, end = end_of("fails", 6, {}, 6)
    assert case.accepts(end, webs(1, 2, 3), 0)
    assert not case.accepts(end, {}, 5)
    assert not case.accepts(end, webs(1), 5)


@pytest.mark.parametrize(
    ("name", "kind", "after", "states", "code", "right"),
    [
        ("stop", "VMM killed", "crashed", "stopped", 0, True),
        ("stop", "VMM killed", "crashed", "crashed", 0, False),
        ("pause", "VMM killed", "crashed", "crashed", 5, True),
        ("pause", "VMM killed", "crashed", "crashed", 0, False),
        ("pause", "kill before", "crashed", "crashed", 5, False),
        ("pause", "power cut", "stopped", "stopped", 5, True),
        ("start", "power cut", "stopped", "running", 0, True),
        ("start", "kill before", "stopped", "stopped", 5, False),
    ],
)
def test_a_second_try_of_what_is_done_to_a_vm(
    name: str, kind: str, after: str, states: str, code: int, right: bool
) -> None:
    case = Case(OPERATION[name], kind, 1)
    end = case.end({"web": "running"}, {"web": after}, KILLED, ["a step"])
    assert case.accepts(end, {"web": states}, code) is right


def test_an_image_that_was_built_need_not_outlast_the_power() -> None:
    for kind, right in (("power cut", True), ("fails", False)):
        case = Case(OPERATION["image build"], kind, 3)
        assert case.leaves(case.end({}, {}, 0, ["build image made"])) is right
    deleted = Case(OPERATION["image delete"], "power cut", 5)
    assert not deleted.leaves(deleted.end({IMPORTED: "there"}, {IMPORTED: "there"}, 0, ["commit: the image is gone"]))
    assert deleted.leaves(deleted.end({IMPORTED: "there", BUILT: "there"}, {}, 0, ["commit: the image is gone"]))


def test_only_a_documented_end_is_right() -> None:
    for case in (Case(OPERATION["start"], kind, 1) for kind in ("Ctrl-C", "fails", "VMM killed")):
        assert 1 not in case.codes
    assert Case(OPERATION["start"], "Ctrl-C", 1).codes == (0, 130)
