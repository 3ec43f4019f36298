from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.support import KEY, told, uuid_of
from virshle.errors import ConfigError, NotFoundError, UsageError
from virshle.model.version import LONGEST_CLOUD_CONFIG
from virshle.model.vm import User
from virshle.userdata import UserData, read_user_data

OTHER = f"{KEY.split()[0]} {KEY.split()[1]} other"

SAMPLE = f"""
[[user]]
name = "ada"
[user.ssh]
authorized_keys = ["{KEY}", "{OTHER}\\n"]

[[user]]
name = "bob"

[account]
uuid = "{uuid_of("account")}"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "user-data.toml"


def test_users_and_account_are_read(file: Path) -> None:
    file.write_text(SAMPLE)
    data, warnings = read_user_data([file])
    assert data.users == (User(name="ada", authorized_keys=(KEY, OTHER)), User(name="bob"))
    assert data.account == uuid_of("account")
    assert warnings == []


def test_an_empty_file_asks_for_nothing(file: Path) -> None:
    file.write_text("")
    data, warnings = read_user_data([file])
    assert (data, warnings) == (UserData(), [])


def test_what_has_no_effect_is_warned_about(file: Path) -> None:
    file.write_text(SAMPLE + "id = 7\n")
    assert read_user_data([file])[1] == [f"{file}: account.id has no effect: an account is its uuid"]


_WRONG = {
    "a near key": (
        '[[user]]\nnmae = "a"\n',
        ["user[0].nmae: unknown key; did you mean name?", "user[0].name: missing"],
    ),
    "no user name": ('[[user]]\nname = "Ada L"\n', ["user[0].name: "]),
    "a key of two lines": (
        '[[user]]\nname = "a"\n[user.ssh]\nauthorized_keys = ["ssh-rsa A\\nssh-rsa B"]\n',
        ["user[0].ssh.authorized_keys[0]: "],
    ),
    "keys that are none": (
        '[[user]]\nname = "a"\n[user.ssh]\nauthorized_keys = ["ssh-ed25519", "ssh-rsa not-base64! me@x"]\n',
        [
            "authorized_keys[0]: ssh-ed25519 is the type of a key",
            "authorized_keys[1]: the ssh-rsa key 'me@x' is damaged",
        ],
    ),
    "no key": ('[[user]]\nname = "a"\n[user.ssh]\nauthorized_keys = ["x"]\n', ["authorized_keys[0]: "]),
    "no uuid": ('[account]\nuuid = "me"\n', ["account.uuid: "]),
    "two problems": ('x = 1\n[account]\nuuid = "me"\n', ["x: unknown key", "account.uuid: "]),
}


@pytest.mark.parametrize(("text", "lines"), _WRONG.values(), ids=_WRONG.keys())
def test_problems_are_told_by_their_keys(text: str, lines: list[str], file: Path) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_user_data([file])
    for line in lines:
        assert f"{file}: {line}" in told(caught.value) or line in told(caught.value)
    assert len(caught.value.details) == len(lines)


@pytest.mark.parametrize("content", [b"[[user]\n", b'x = "\xff"\n'])
def test_what_is_no_toml_is_told(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="is not valid TOML"):
        read_user_data([file])


def test_what_is_nested_too_deeply_is_told(file: Path) -> None:
    file.write_text("x = " + "[" * 5000 + "]" * 5000)
    with pytest.raises(ConfigError):
        read_user_data([file])


def test_a_missing_file_is_not_found(file: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no user data file"):
        read_user_data([file])


def test_a_folder_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*Is a directory"):
        read_user_data([tmp_path])


def test_a_byte_order_mark_is_passed_over(file: Path) -> None:
    file.write_text("\ufeff" + SAMPLE)
    assert [user.name for user in read_user_data([file])[0].users] == ["ada", "bob"]


@pytest.mark.parametrize("first", ["#cloud-config\n", "#cloud-config \r\n", "\ufeff#cloud-config\n"])
def test_a_cloud_config_is_known_by_its_first_line_and_taken_as_it_is(first: str, file: Path) -> None:
    file.write_bytes(f"{first}packages: [näh]\n".encode())
    data, warnings = read_user_data([file])
    assert (data, warnings) == (UserData(cloud_config=first.lstrip("\ufeff") + "packages: [näh]\n"), [])


def test_it_ends_with_a_line(file: Path) -> None:
    file.write_text("#cloud-config\npackages: []")
    assert read_user_data([file])[0].cloud_config == "#cloud-config\npackages: []\n"


def test_users_and_a_cloud_config_go_together_and_two_of_a_kind_do_not(file: Path, tmp_path: Path) -> None:
    file.write_text(SAMPLE)
    other = tmp_path / "cloud.yaml"
    other.write_text("#cloud-config\na: 1\n")
    data, _ = read_user_data([other, file])
    assert (data.cloud_config, len(data.users)) == ("#cloud-config\na: 1\n", 2)
    for twice in (file, other):
        with pytest.raises(UsageError, match="twice"):
            read_user_data([twice, twice])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("#cloud-config\n", "it has only comments"),
        ("#cloud-config\n# x\n\n", "it has only comments"),
        ("#cloud-config\na: \0\n", "a NUL"),
        ("#cloud-config\na: " + "é" * (LONGEST_CLOUD_CONFIG // 2), "too long"),
        ("# cloud-config\na: 1\n", "not valid TOML"),
        ("#!/bin/sh\necho hello\n", "not valid TOML"),
    ],
    ids=["empty", "comments", "nul", "long", "another first line", "a script"],
)
def test_what_is_no_cloud_config_is_told(text: str, why: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match=why) as caught:
        read_user_data([file])
    if "TOML" in why:
        assert "a cloud-config begins with the line #cloud-config" in caught.value.hint


def test_an_error_names_the_file_and_does_not_send_one_to_the_configuration(file: Path) -> None:
    for text in ("x = 1\n", "[[user]\n"):
        file.write_text(text)
        with pytest.raises(ConfigError) as caught:
            read_user_data([file])
        assert "config check" not in told(caught.value)
        assert str(file) in caught.value.hint
