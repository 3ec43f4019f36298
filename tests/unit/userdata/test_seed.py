from __future__ import annotations

import json
import re
from email import message_from_string
from pathlib import Path
from typing import Any

import pytest

from tests.unit.support import KEY, make_vm
from virshle.model.names import check_file_name
from virshle.plan import Run, Write
from virshle.userdata import seed_steps
from virshle.vmm.driver import Place

PLACE = Place(Path("/s/vm/x"), Path("/r/vm/x"))
TEXTS, SEED = PLACE.folder / "seed", str(PLACE.seed)
ODD = 'ssh-rsa AAAA "quoted" \\back {{ jinja }} $HOME # é: no'


def _texts(**changes: Any) -> dict[str, str]:
    steps = seed_steps(make_vm(**changes), PLACE.folder, PLACE.seed)
    return {step.path.name: step.text for step in steps if isinstance(step, Write)}


def test_it_is_made_anew_each_time_from_private_files() -> None:
    steps = seed_steps(make_vm(), PLACE.folder, PLACE.seed)
    writes = [step for step in steps if isinstance(step, Write)]
    assert {step.path for step in writes} == {TEXTS / "meta-data", TEXTS / "user-data", TEXTS / "authorized_keys"}
    assert {step.mode for step in writes} == {0o600}
    assert [step.command.argv for step in steps if isinstance(step, Run)] == [
        ("mkdir", "-p", "--", str(TEXTS)),
        ("rm", "-f", "--", SEED),
        ("mkfs.vfat", "-n", "CIDATA", "-C", SEED, "1024"),
        ("mcopy", "-oi", "disk/.seed", *(f"seed/{step.path.name}" for step in writes), "::"),
    ]


def test_mtools_is_given_no_path_that_it_would_give_to_a_shell() -> None:
    place = Place(Path("/$(touch x)/vm/x"), Path("/r"))
    *_, fill = seed_steps(make_vm(), place.folder, place.seed)
    assert isinstance(fill, Run)
    assert fill.command.cwd == place.folder
    assert not any("$" in word for word in fill.command.argv)
    assert fill.shell().startswith("env -C '/$(touch x)/vm/x' MTOOLS_SKIP_CHECK=1 mcopy -oi disk/.seed seed/")


def test_no_disk_can_have_the_seeds_name() -> None:
    try:
        check_file_name(Path(SEED).name)
    except ValueError:
        return
    raise AssertionError(SEED)


def test_the_guest_is_told_its_name_and_uuid() -> None:
    vm = make_vm("web")
    lines = dict(line.split(": ", 1) for line in _texts()["meta-data"].splitlines())
    assert {key: json.loads(value) for key, value in lines.items()} == {
        "instance-id": str(vm.uuid),
        "local-hostname": "web",
    }


def test_simple_guests_are_told_the_keys_one_a_line() -> None:
    assert _texts(authorized_keys=[KEY, ODD])["authorized_keys"] == f"{KEY}\n{ODD}\n"


def _values(text: str, key: str) -> list[Any]:
    """The JSON behind each `key:`."""
    return [json.loads(value) for value in re.findall(rf"^ +(?:- )?{key}: (.*)$", text, re.MULTILINE)]


def test_cloud_init_is_told_login_users_and_keys_whatever_is_in_them() -> None:
    text = _texts(
        authorized_keys=[ODD], users=[{"name": "ada", "authorized_keys": [KEY, ODD]}, {"name": "bob"}], login="op"
    )["user-data"]
    assert text.startswith("#cloud-config\n")
    assert _values(text, "name") == ["op", "ada", "bob"]
    assert _values(text, "ssh_authorized_keys") == [[ODD], [KEY, ODD], []]
    assert text.isascii()


def test_who_is_named_twice_is_one_user_with_all_keys() -> None:
    texts = _texts(login="op", authorized_keys=[KEY], users=[{"name": "op", "authorized_keys": [KEY, ODD]}])
    assert _values(texts["user-data"], "name") == ["op"]
    assert _values(texts["user-data"], "ssh_authorized_keys") == [[KEY, ODD]]
    assert texts["authorized_keys"] == f"{KEY}\n{ODD}\n"


def test_simple_guests_are_told_users_and_keys_in_lines() -> None:
    users = [{"name": "ada", "authorized_keys": [KEY, ODD]}, {"name": "bob"}]
    assert _texts(users=users)["users"] == f"ada {KEY}\nada {ODD}\nbob\n"
    assert _texts(users=users, login="op")["users"] == f"op {KEY}\nada {KEY}\nada {ODD}\nbob\n"
    assert "users" not in _texts()


@pytest.mark.parametrize("text", ["#cloud-config\npackages: [nginx]\n", "#cloud-config\r\n# é --virshle--\na: 1\r\n"])
def test_the_callers_cloud_config_is_the_first_part_and_ours_comes_after_it(text: str) -> None:
    _, theirs, ours = message_from_string(_texts(cloud_config=text)["user-data"]).walk()
    texts = [str(part.get_payload(decode=True), "utf-8").rstrip("\n") for part in (theirs, ours)]  # type: ignore[arg-type]
    assert texts == [text.rstrip("\n"), _texts()["user-data"].rstrip("\n")]
    assert {part.get_content_type() for part in (theirs, ours)} == {"text/cloud-config"}
    assert theirs["X-Merge-Type"] is None
    assert ours["X-Merge-Type"] == "list(prepend)+dict(no_replace,recurse_list)+str()"


def test_root_is_root_and_another_login_may_become_it() -> None:
    assert "sudo" not in _texts(login="root")["user-data"]
    assert 'sudo: "ALL=(ALL) NOPASSWD:ALL"' in _texts(login="op")["user-data"]


def test_nobody_logs_in_by_password() -> None:
    assert "ssh_pwauth: false" in _texts()["user-data"]
