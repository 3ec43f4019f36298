from __future__ import annotations

import base64

import pytest

from tests.unit.support import KEY
from virshle.model.public_key import LONGEST, check_public_key, is_certificate


def key(kind: str, *fields: bytes, inner: str = "", more: bytes = b"") -> str:
    """As RFC 4253, 6.6 has it."""
    parts = [(inner or kind).encode(), *fields]
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in parts) + more
    return f"{kind} {base64.b64encode(blob).decode()}"


RSA = (b"\1\0\1", b"\0" + b"\xff" * 256)
P256 = (b"nistp256", b"\4" + b"x" * 64)
KEYS = [
    key("ssh-ed25519", b"x" * 32),
    key("ssh-rsa", *RSA),
    key("ssh-rsa", b"\3", b"\0" + b"\x80" + b"\0" * 127),
    key("ecdsa-sha2-nistp256", *P256),
    key("ecdsa-sha2-nistp384", b"nistp384", b"\4" + b"x" * 96),
    key("ecdsa-sha2-nistp521", b"nistp521", b"\4" + b"x" * 132),
    key("sk-ssh-ed25519@openssh.com", b"x" * 32, b"ssh:"),
    key("sk-ecdsa-sha2-nistp256@openssh.com", *P256, b"ssh:"),
]
# By ssh-keygen of OpenSSH 9.2.
REAL = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK2BT60S3TMZhe3I+GaWL3IREUdFuA6LpR5VraeBRsXY me ed25519",
    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBFkTVMhyqFcdpvXarOnhexYQr479"
    "d30QmOlsdbPBLEdGUfBHQnMPITSDhMuI+XqBDt9+0KFIMRwWmkbmxnA7hxA= me ecdsa",
    "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDRivJC0vn3WHpHTc+LmHdKsacnFw102ZwVV9/68v9gAWdNiCtX"
    "zNmuH8l55dDGJBZU4gjw1u+NqxN89GgBQGhNV+6iCWQnNeX82eNm2IXgcGdF0H1E5UE/0gdmlZwaXgSf"
    "2pUqUAzSuKFVWVfr6nIgZhkmGquQGQK2pANhxLLU9w== me rsa",
)


@pytest.mark.parametrize("line", [*KEYS, *REAL])
def test_keys_of_every_type_are_taken(line: str) -> None:
    assert check_public_key(line) == line


def test_the_spaces_around_and_between_its_words_do_not_matter() -> None:
    kind, data, _ = KEY.split()
    assert check_public_key(f"  {kind} \t{data}  of   me\tat x \r\n") == f"{kind} {data} of me at x"


BAD = {
    "nothing": ("  ", "the key is empty"),
    "the type alone": ("ssh-ed25519", "the key itself is missing"),
    "no base64": ("ssh-rsa not-base64!", "its data is not base64"),
    "not in ASCII": ("ssh-rsa né", "its data is not base64"),
    "cut within four characters": (KEY.split()[0] + " " + KEY.split()[1][:-1], "its data is not base64"),
    "cut": (KEY.split()[0] + " " + KEY.split()[1][:-4], "its end is missing"),
    "cut to nothing": ("ssh-rsa ====", "its data is not base64"),
    "of no field": ("ssh-rsa AAA=", "its end is missing"),
    "more at its end": (key("ssh-rsa", *RSA, more=b"xx"), "or there is extra text at its end"),
    "one field more": (key("ssh-rsa", *RSA, b"x"), "does not match its type"),
    "one field less": (key("ssh-rsa", RSA[0]), "does not match its type"),
    "another type within": (key("ssh-rsa", b"x" * 32, inner="ssh-ed25519"), "another type"),
    "another curve within": (key("ecdsa-sha2-nistp384", *P256), "does not match its type"),
    "short": (key("ssh-ed25519", b"x" * 31), "does not match its type"),
    "small": (key("ssh-rsa", b"\3", b"\x7f" + b"\xff" * 63), "511 bits"),
    "a certificate": ("ssh-ed25519-cert-v01@openssh.com AAAA x", "a certificate"),
    "options": (f'command="x y",no-pty {KEY}', "options before the key"),
    "two lines": (f"{KEY}\n{KEY}", "several lines"),
    "another text": ("hello", "must begin with one of ssh-ed25519"),
    "a control character": (f"{KEY} \x1b[2J", "control characters"),
    "without end": (f"{KEY} {'x' * LONGEST}", "too long"),
    "a private key": ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNz\n", "this is a private key"),
}


@pytest.mark.parametrize(("line", "why"), BAD.values(), ids=BAD.keys())
def test_what_is_none_is_refused_and_not_shown(line: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        check_public_key(line)
    assert "b3BlbnNz" not in str(caught.value)


def test_it_is_named_by_its_comment() -> None:
    with pytest.raises(ValueError, match="the ssh-rsa key 'me@x' is damaged"):
        check_public_key("ssh-rsa AAAA me@x")


def test_a_certificate_is_known() -> None:
    assert is_certificate("ssh-rsa-cert-v01@openssh.com AAAA x")
    assert not is_certificate(f"{KEY} ssh-rsa-cert-v01@openssh.com")
