"""The ssh keys that may log in to a VM: virshle's own key, which is made once, and the keys of the user who creates
the VM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from virshle import log
from virshle.errors import HostError
from virshle.fs import caller_home, explained, read_given, read_start
from virshle.model.public_key import check_public_key, is_certificate
from virshle.plan import Step, run

_KINDS = ("ed25519", "ed25519_sk", "ecdsa", "ecdsa_sk", "rsa")
"""The key files that ssh tries by itself (ssh(1), -i)."""


def key_file(keys: Path) -> Path:
    return keys / "id_ed25519"


def make_key(keys: Path) -> list[Step]:
    """Steps that make virshle's key; none if it exists. All VMs use this key, so the steps have no undo."""
    file = key_file(keys)
    if file.exists():
        return []
    staged = keys / ".new"
    keygen = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "virshle", "-f", staged / file.name)
    return [
        run("make a folder for virshle's own ssh key", "mkdir", "-p", staged),
        run("remove an unfinished key, if there is one", "rm", "-f", staged / file.name, staged / f"{file.name}.pub"),
        run("make virshle's own ssh key", *keygen),
        # The private key comes last: if it is in place, the public key is there too.
        run("put the public key in place", "mv", staged / f"{file.name}.pub", f"{file}.pub"),
        run("put the private key in place", "mv", staged / file.name, file),
    ]


def read_key(keys: Path) -> str:
    """virshle's public key. Raises HostError."""
    file = Path(f"{key_file(keys)}.pub")
    hint = f"remove {keys}, and virshle makes a new key (old VMs keep the old key)"
    with explained("read virshle's own ssh key", hint=hint):
        text = read_start(file).strip()
    try:
        return check_public_key(text)
    except ValueError as error:
        raise HostError(
            f"{file} is not an ssh public key: {error}", hint=f"remove {keys}, and virshle makes a new key"
        ) from None


def personal_key_files() -> list[Path]:
    """The caller's private keys that ssh tries by itself. Only the public key must exist: the private key may be in an
    agent."""
    folder = caller_home() / ".ssh"
    files = [folder / f"id_{kind}" for kind in _KINDS]
    return [file for file in files if file.with_name(f"{file.name}.pub").is_file()]


def personal_keys() -> list[str]:
    """The caller's public keys: all *.pub files in ~/.ssh. Warns about each line that is not a public key."""
    keys: list[str] = []
    folder = caller_home() / ".ssh"
    with suppress(OSError):
        for file in sorted(folder.glob("*.pub")):
            with suppress(OSError):
                keys += _keys_in(file, read_given(file, patience=0).decode(errors="replace"))
    return keys


def _keys_in(file: Path, text: str) -> Iterator[str]:
    for line in text.splitlines():
        if not line.strip() or line.startswith("#") or is_certificate(line):
            continue
        try:
            yield check_public_key(line)
        except ValueError as error:
            log.warn(f"{file} is left out: {error}")
