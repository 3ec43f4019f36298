from __future__ import annotations

import json

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from virshle.render import render

_ODD = [
    "plain",
    "a: b",
    "- x",
    "it's",
    'say "x"',
    "two\nlines: true",
    "{{ x }}",
    "{% raw %}",
    "# no",
    "é漢",
    "\0\x1b",
    " ",
    "",
]


def _meta(name: str) -> dict[str, object]:
    lines = render("meta-data.j2", uuid="u", name=name).splitlines()
    assert len(lines) == 2
    return {key: json.loads(value) for key, value in (line.split(": ", 1) for line in lines)}


@pytest.mark.parametrize("name", _ODD)
def test_no_value_breaks_out_of_its_place(name: str) -> None:
    assert _meta(name) == {"instance-id": "u", "local-hostname": name}


@given(st.text())
def test_nor_does_any_other(name: str) -> None:
    assert _meta(name)["local-hostname"] == name


def test_a_value_that_is_not_given_is_an_error() -> None:
    with pytest.raises((jinja2.UndefinedError, TypeError)):
        render("meta-data.j2", uuid="u")


@pytest.mark.parametrize("odd", _ODD)
def test_users_and_keys_stay_in_their_place(odd: str) -> None:
    text = render("user-data.j2", login=odd, people={odd: [odd], f"{odd}2": [odd, "k"]})
    values = [line.split(": ", 1)[1] for line in text.splitlines() if "name: " in line.split('"')[0]]
    assert [json.loads(value) for value in values] == [odd, f"{odd}2"]
    keys = [line.split(": ", 1)[1] for line in text.splitlines() if line.startswith("    ssh_authorized_keys: ")]
    assert [json.loads(value) for value in keys] == [[odd], [odd, "k"]]
    allowed = ("#cloud-config", "ssh_pwauth:", "disable_root:", "users:", "  - name: ", "    ")
    assert all(line.startswith(allowed) for line in text.splitlines())
