"""The keys that may enter a VM: virshle's own, made once, and those of who creates it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from virshle.errors import HostError
from virshle.fs import caller_home, explained, read_given, read_start
from virshle.model.vm import PublicKey
from virshle.plan import Step, run

_PUBLIC_KEY: TypeAdapter[str] = TypeAdapter(PublicKey)


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
    if not is_public_key(text):
        raise HostError(f"{file} is no ssh public key", hint=f"remove {keys} to have a new one made")
    return text


def is_public_key(line: str) -> bool:
    try:
        _PUBLIC_KEY.validate_python(line)
    except ValidationError:
        return False
    return True


def personal_keys() -> list[str]:
    """The caller's public keys, as they lie in ~/.ssh."""
    keys: list[str] = []
    folder = caller_home() / ".ssh"
    with suppress(OSError):
        for file in sorted(folder.glob("*.pub")):
            with suppress(OSError, UnicodeDecodeError):
                lines = read_given(file, patience=0).decode().splitlines()
                keys += [key for line in lines if (key := line.strip()) and is_public_key(key)]
    return keys
