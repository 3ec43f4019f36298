"""The keys that may enter a VM: virshle's own, made once, and those of who creates it."""

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
"""ssh(1), -i."""


def key_file(keys: Path) -> Path:
    return keys / "id_ed25519"


def make_key(keys: Path) -> list[Step]:
    """Steps, if there is none yet. It is every VM's, so it has no undo."""
    file = key_file(keys)
    if file.exists():
        return []
    staged = keys / ".new"
    keygen = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "virshle", "-f", staged / file.name)
    return [
        run("make a place for virshle's own ssh key", "mkdir", "-p", staged),
        run("drop half a key, if one was left", "rm", "-f", staged / file.name, staged / f"{file.name}.pub"),
        run("make virshle's own ssh key", *keygen),
        # The private half last: where it is, both are.
        run("put its public half in place", "mv", staged / f"{file.name}.pub", f"{file}.pub"),
        run("put its private half in place", "mv", staged / file.name, file),
    ]


def read_key(keys: Path) -> str:
    """virshle's public key. Raises HostError."""
    file = Path(f"{key_file(keys)}.pub")
    with explained("read virshle's own ssh key", hint=f"remove {keys} to have a new one made (old VMs keep theirs)"):
        text = read_start(file).strip()
    try:
        return check_public_key(text)
    except ValueError as error:
        raise HostError(f"{file} is no ssh public key: {error}", hint=f"remove {keys} to have a new one made") from None


def personal_key_files() -> list[Path]:
    """The caller's private keys that ssh would try by itself, where their public half lies beside them: an agent may
    have the private one."""
    folder = caller_home() / ".ssh"
    files = [folder / f"id_{kind}" for kind in _KINDS]
    return [file for file in files if file.with_name(f"{file.name}.pub").is_file()]


def personal_keys() -> list[str]:
    """The caller's public keys, as they lie in ~/.ssh. What is none is warned about."""
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
