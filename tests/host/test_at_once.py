"""Many commands at once, on the same VMs: each is done or refused for a reason, and nothing is lost or left."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.host.host import Host
from tests.host.nobody import ANOTHER, Nobody, nobody
from tests.host.test_kill import one_image
from virshle.config.paths import Paths
from virshle.service.check import check
from virshle.service.node import Node

COMMANDS, SEED = 50, 5
NAMES = tuple(f"web-{number}" for number in range(1, 6))
OTHERS = tuple(f"db-{number}" for number in range(1, 6))
_REFUSED = (4, 5)
"""It is not there; it is there already, runs, or is in use."""


def orders(count: int, rng: random.Random) -> list[tuple[str, ...]]:
    """Five names are made, fought for and deleted; five VMs more are only started and stopped."""

    def order() -> tuple[str, ...]:
        name, any_name = rng.choice(NAMES), rng.choice(NAMES + OTHERS)
        made: list[tuple[str, ...]] = [
            ("create", "-t", "plain", name),
            ("create", "-t", "plain", "web", "-n", "3"),
            ("start", any_name),
            ("stop", "--force", "--timeout", "0", any_name),
            ("delete", "--force", name),
            ("ls", "--format", "json"),
            ("info", name),
        ]
        return rng.choices(made, weights=(8, 2, 10, 6, 6, 3, 2))[0]

    return [order() for _ in range(count)]


def _run(host: Host, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return host.v(*words, code=None)


@pytest.mark.heart
def test_fifty_commands_on_ten_vms(bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "db", "-n", "5")
    bare.v("create", "-t", "plain", "web", "-n", "5")
    made = {row["name"]: row["uuid"] for row in bare.ls()}
    todo = orders(COMMANDS, random.Random(SEED))
    with ThreadPoolExecutor(COMMANDS) as pool:
        done = list(pool.map(partial(_run, bare), todo))
    for words, one in zip(todo, done, strict=True):
        assert one.returncode in (0, *_REFUSED), (words, one.returncode, one.stderr)
        assert one.returncode == 0 or one.stderr.splitlines()[-2].startswith("error: "), (words, one.stderr)
        assert "Traceback" not in one.stderr
    # The test were idle if all were refused, or nobody.
    assert {one.returncode == 0 for one in done} == {True, False}
    assert {words[0] for words, one in zip(todo, done, strict=True) if one.returncode == 0} >= {"start", "delete", "ls"}
    assert not bare.report().violations
    bare.v("create", "-t", "plain", "last")
    bare.check()
    now = {row["name"]: row["uuid"] for row in bare.ls()}
    assert {name: now.get(name) for name in OTHERS} == {name: made[name] for name in OTHERS}
    assert set(now) <= {*NAMES, *OTHERS, "last"}
    bare.v("delete", "--all", "--force", "--yes")
    assert bare.folders() == set()
    bare.check()


@pytest.mark.skipif(os.geteuid() != 0, reason="SKIPPED LOUDLY: only root can be somebody else")
def test_two_users_and_root_among_anothers_vms(bare: Host) -> None:
    one_image(bare)
    with nobody() as user:
        _settle(user, bare)
        before = _bytes(user, "theirs")
        rng = random.Random(SEED)
        todo = [(who, words) for words in orders(10, rng) for who in ("root", "user", "root as user")]

        def run(one: tuple[str, tuple[str, ...]]) -> subprocess.CompletedProcess[str]:
            who, words = one
            return _run(bare, words) if who == "root" else user.v(*words, code=None, root=who != "user")

        with ThreadPoolExecutor(len(todo)) as pool:
            done = list(pool.map(run, todo))
        for (who, words), one in zip(todo, done, strict=True):
            allowed = (0, *_REFUSED) if who != "root as user" or words[0] in ("ls", "info") else (*_REFUSED, 6)
            assert one.returncode in allowed, (who, words, one.returncode, one.stderr)
            assert "Traceback" not in one.stderr
        assert _bytes(user, "theirs") == before
        _all_is_well(user)
    bare.v("create", "-t", "plain", "last")
    bare.check()


@pytest.mark.skipif(os.geteuid() != 0, reason="SKIPPED LOUDLY: only root can be somebody else, and two of them")
def test_two_users_at_once_and_one_among_the_others_vms(bare: Host) -> None:
    one_image(bare)
    with nobody() as one, nobody(ANOTHER, beside=one) as other:
        for user in (one, other):
            _settle(user, bare)
        before = {user.name: _bytes(user, "theirs") for user in (one, other)}
        closed = other.v("ls", code=6, of=one)
        assert "Permission denied" in closed.stderr
        # Opened as far as its owner could by mistake: all but the files.
        way = [path for path in one.state.parents if path.is_relative_to(one.home)]
        for path in (*way, one.state, *(one.state / kind for kind in ("vm", "name", "id"))):
            path.chmod(0o755)
        others = ((one, None), (other, None), (other, one))
        todo = [(who, of, words) for words in orders(10, random.Random(SEED)) for who, of in others]
        with ThreadPoolExecutor(len(todo)) as pool:
            done = list(pool.map(lambda each: each[0].v(*each[2], code=None, of=each[1]), todo))
        for (who, of, words), ran in zip(todo, done, strict=True):
            allowed = (0, *_REFUSED) if of is None else (*_REFUSED, 6) if words[0] != "ls" else (0,)
            assert ran.returncode in allowed, (who.name, of, words, ran.returncode, ran.stderr)
            assert "Traceback" not in ran.stderr
        own = [ran.returncode for (_, of, _), ran in zip(todo, done, strict=True) if of is None]
        assert {code == 0 for code in own} == {True, False}
        for user in (one, other):
            assert _bytes(user, "theirs") == before[user.name]
            _all_is_well(user)


def _settle(user: Nobody, bare: Host) -> None:
    """With a configuration of its own, and a VM."""
    config, image = user.home / ".config/virshle/config.toml", user.home / "image.raw"
    config.parent.mkdir(parents=True)
    image.write_bytes((bare.folder / "image.raw").read_bytes())
    config.write_text(bare.config.read_text().replace(str(bare.folder / "image.raw"), str(image)))
    for path in (image, config):
        path.chmod(0o644)
    user.v("create", "-t", "plain", "theirs")


def _all_is_well(user: Nobody) -> None:
    """After one more command of its own. Then its VMs go."""
    user.v("create", "-t", "plain", "last")
    config = user.home / ".config/virshle/config.toml"
    origins = {"state": "test", "run": "test", "config": "test"}
    report = check(Node(Paths(user.state, user.run, config, origins)))
    assert (report.violations, report.leftovers) == ([], [])
    assert {path.owner() for path in user.state.rglob("*")} == {user.name}
    user.v("delete", "--all", "--force", "--yes")


def _bytes(user: Nobody, name: str) -> dict[Path, bytes]:
    folder = (user.state / "name" / name).resolve()
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".log"}
