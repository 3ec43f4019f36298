from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.support import KEY, told, uuid_of
from virshle.errors import ConfigError, NotFoundError
from virshle.model.vm import User
from virshle.userdata import read_user_data

SAMPLE = f"""
[[user]]
name = "ada"
[user.ssh]
authorized_keys = ["{KEY}", "ssh-rsa AAAA other"]

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
    data, warnings = read_user_data(file)
    assert data.users() == (User(name="ada", authorized_keys=(KEY, "ssh-rsa AAAA other")), User(name="bob"))
    assert data.account is not None
    assert data.account.uuid == uuid_of("account")
    assert warnings == []


def test_an_empty_file_asks_for_nothing(file: Path) -> None:
    file.write_text("")
    data, warnings = read_user_data(file)
    assert (data.users(), data.account, warnings) == ((), None, [])


def test_what_has_no_effect_is_warned_about(file: Path) -> None:
    file.write_text(SAMPLE + "id = 7\n")
    assert read_user_data(file)[1] == [f"{file}: account.id has no effect: an account is its uuid"]


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
    "no key": ('[[user]]\nname = "a"\n[user.ssh]\nauthorized_keys = ["x"]\n', ["authorized_keys[0]: "]),
    "no uuid": ('[account]\nuuid = "me"\n', ["account.uuid: "]),
    "two problems": ('x = 1\n[account]\nuuid = "me"\n', ["x: unknown key", "account.uuid: "]),
}


@pytest.mark.parametrize(("text", "lines"), _WRONG.values(), ids=_WRONG.keys())
def test_problems_are_told_by_their_keys(text: str, lines: list[str], file: Path) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_user_data(file)
    for line in lines:
        assert f"{file}: {line}" in told(caught.value) or line in told(caught.value)
    assert len(caught.value.details) == len(lines)


@pytest.mark.parametrize("content", [b"[[user]\n", b'x = "\xff"\n'])
def test_what_is_no_toml_is_told(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="is no valid TOML"):
        read_user_data(file)


def test_what_is_nested_too_deeply_is_told(file: Path) -> None:
    file.write_text("x = " + "[" * 5000 + "]" * 5000)
    with pytest.raises(ConfigError):
        read_user_data(file)


def test_a_missing_file_is_not_found(file: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no user data file"):
        read_user_data(file)


def test_a_folder_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*Is a directory"):
        read_user_data(tmp_path)


def test_an_error_names_the_file_and_does_not_send_one_to_the_configuration(file: Path) -> None:
    for text in ("x = 1\n", "[[user]\n"):
        file.write_text(text)
        with pytest.raises(ConfigError) as caught:
            read_user_data(file)
        assert "config check" not in told(caught.value)
        assert str(file) in caught.value.hint


def test_a_byte_order_mark_is_skipped(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + SAMPLE.encode())
    assert len(read_user_data(file)[0].users()) == 2
