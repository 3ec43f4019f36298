from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from tests.unit.fakehost import FakeHost
from tests.unit.support import KEY, OWN_KEY, told
from virshle.errors import HostError
from virshle.model.vm import PublicKey
from virshle.plan import Apply, Plan
from virshle.userdata import key_file, make_key, personal_keys, read_key


def test_the_key_is_made_once_and_is_whole_where_its_private_half_is(tmp_path: Path, host: FakeHost) -> None:
    with Apply() as apply:
        apply(Plan("key", make_key(tmp_path)))
    assert key_file(tmp_path).read_text() == "private"
    assert read_key(tmp_path) == OWN_KEY
    moved = [argv[-1] for argv in host.calls if argv[0] == "mv"]
    assert moved == [f"{key_file(tmp_path)}.pub", str(key_file(tmp_path))]
    assert make_key(tmp_path) == []


def test_half_a_key_is_made_anew(tmp_path: Path, host: FakeHost) -> None:
    Path(f"{key_file(tmp_path)}.pub").write_text("ssh-rsa of an interrupted try\n")
    (tmp_path / ".new").mkdir()
    (tmp_path / ".new" / "id_ed25519").write_text("half")
    with Apply() as apply:
        apply(Plan("key", make_key(tmp_path)))
    assert key_file(tmp_path).exists()
    assert read_key(tmp_path) == OWN_KEY
    keygen = next(index for index, argv in enumerate(host.calls) if argv[0] == "ssh-keygen")
    assert host.calls[keygen - 1][0] == "rm"  # it would ask whether to overwrite


def test_the_key_of_every_vm_is_never_undone(tmp_path: Path) -> None:
    assert all(step.undo == () for step in make_key(tmp_path))


@pytest.mark.parametrize("text", ["", "AAAA", "ssh-rsa A\nssh-rsa B\n"])
def test_what_is_no_public_key_is_refused(text: str, tmp_path: Path) -> None:
    Path(f"{key_file(tmp_path)}.pub").write_text(text)
    with pytest.raises(HostError, match="is not an ssh public key"):
        read_key(tmp_path)


def test_a_missing_key_is_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(HostError) as caught:
        read_key(tmp_path)
    assert "cannot read virshle's own ssh key" in told(caught.value)
    assert "and virshle makes a new key" in told(caught.value)


@pytest.fixture
def ssh(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / ".ssh"
    folder.mkdir()
    return folder


def test_the_callers_keys_are_those_in_their_folder(ssh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = f"{KEY} b@x"
    (ssh / "b.pub").write_text(f"{other}\n")
    (ssh / "a.pub").write_text(f"{KEY}  \n\n# note\n{OWN_KEY}\n")
    (ssh / "b-cert.pub").write_text("ssh-ed25519-cert-v01@openssh.com AAAA b@x\n")
    (ssh / "id_ed25519").write_text("ssh-private, never read")
    (ssh / "authorized_keys").write_text("ssh-rsa of others")
    assert personal_keys() == [KEY, OWN_KEY, other]
    assert capsys.readouterr().err == ""


def test_odd_files_are_left_out_and_what_is_no_key_is_told(ssh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (ssh / "a.pub").write_bytes(b"ssh-rsa \xff\n")
    (ssh / "b.pub").mkdir()
    (ssh / "c.pub").write_text("ssh-rsa \x1b[2J\n")
    (ssh / "d.pub").symlink_to("nowhere")
    (ssh / "e.pub").write_text(f"{KEY}\n")
    assert personal_keys() == [KEY]
    said = capsys.readouterr().err
    assert f"warning: {ssh}/a.pub is left out: this ssh-rsa key is damaged" in said
    assert f"warning: {ssh}/c.pub is left out" in said


def test_a_caller_without_keys_has_none() -> None:
    assert personal_keys() == []


def _is_key(text: str) -> bool:
    try:
        TypeAdapter(PublicKey).validate_python(text)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("line", ["ssh-", "ssh-rsa " + "A" * 20_000], ids=["short", "long"])
def test_every_key_of_the_caller_is_one_that_a_vm_takes(line: str, ssh: Path) -> None:
    (ssh / "a.pub").write_text(f"{line}\n{KEY}\n")
    assert KEY in personal_keys()
    assert [key for key in personal_keys() if not _is_key(key)] == []
