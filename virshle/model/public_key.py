"""Checks one line of an authorized_keys file: would an ssh server accept this key?"""

from __future__ import annotations

import base64
import binascii

LONGEST = 16384
_LEAST_RSA = 1024
"""Bits. OpenSSH (sshkey.h, SSH_RSA_MINIMUM_MODULUS_SIZE) and dropbear (MIN_RSA_KEYLEN) refuse smaller keys."""

_FIELDS = {
    "ssh-ed25519": (32,),
    "ssh-rsa": (None, None),
    "ssh-dss": (None, None, None, None),
    "ecdsa-sha2-nistp256": (b"nistp256", 65),
    "ecdsa-sha2-nistp384": (b"nistp384", 97),
    "ecdsa-sha2-nistp521": (b"nistp521", 133),
    "sk-ssh-ed25519@openssh.com": (32, None),
    "sk-ecdsa-sha2-nistp256@openssh.com": (b"nistp256", 65, None),
}
"""For each key type, the fields that follow the type in the key's data: a length in bytes, an exact text, or None for
any value (RFC 4253, 6.6; RFC 5656, 3.1; RFC 8709, 4; OpenSSH: PROTOCOL.u2f)."""


def check_public_key(line: str) -> str:
    """The line, with one space between its words. Raises ValueError.

    The message never has the key itself, because that may be a private key."""
    line = line.strip()
    if not line:
        raise ValueError("the key is empty: leave it out, or give a key")
    if "PRIVATE KEY" in line:
        raise ValueError("this is a private key, which must not be in a VM: give the public key from the .pub file")
    if len(line.splitlines()) > 1:
        raise ValueError("the text has several lines: give each key as a separate text")
    kind, *rest = line.split(maxsplit=2)
    if kind not in _FIELDS:
        raise ValueError(_why_no_type(line, kind))
    if not rest:
        raise ValueError(f"{kind} is the type of a key, but the key itself is missing")
    data, comment = rest[0], " ".join(rest[1].split()) if len(rest) > 1 else ""
    named = f"the {kind} key {comment[:60]!r}" if comment else f"this {kind} key"
    try:
        blob = base64.b64decode(data.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError(f"{named} is damaged: its data is not base64, or a part of it is missing") from None
    _check_blob(kind, blob, named)
    key = " ".join(filter(None, (kind, data, comment)))
    if not key.isprintable():
        raise ValueError(f"{named} has a comment with control characters")
    if len(key) > LONGEST:
        raise ValueError(f"{named} is too long: it has {len(key)} characters, and the limit is {LONGEST}")
    return key


def is_certificate(line: str) -> bool:
    """A certificate is a file beside its key. It is not enough to log in."""
    return "-cert-v01@openssh.com" in line.partition(" ")[0]


def _why_no_type(line: str, kind: str) -> str:
    if is_certificate(line):
        return "this is a certificate, which does not open a VM: give the public key itself"
    if any(f" {known} " in line for known in _FIELDS):
        return "there are options before the key, and virshle does not pass them on: give the key without options"
    return f"this is not an ssh public key: it must begin with one of {', '.join(_FIELDS)}"


def _check_blob(kind: str, blob: bytes, named: str) -> None:
    fields = _split(blob)
    if fields is None:
        raise ValueError(f"{named} is damaged: its end is missing, or there is extra text at its end")
    inner, values = fields[0].decode("ascii", "replace"), fields[1:]
    if inner != kind:
        raise ValueError(f"{named} is damaged: its data belongs to a key of another type")
    wanted = _FIELDS[kind]
    if len(values) != len(wanted) or not all(map(_fits, values, wanted)):
        raise ValueError(f"{named} is damaged: its data does not match its type")
    if kind == "ssh-rsa" and (bits := int.from_bytes(values[1], "big").bit_length()) < _LEAST_RSA:
        raise ValueError(f"{named} is too small: it has {bits} bits, and ssh servers need at least {_LEAST_RSA}")


def _split(blob: bytes) -> list[bytes] | None:
    """The fields of the data. Each field begins with its length (RFC 4251, 5). None if the fields do not fill the data
    exactly."""
    fields = []
    while blob:
        length = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + length or len(blob) < 4:
            return None
        fields.append(blob[4 : 4 + length])
        blob = blob[4 + length :]
    return fields or None


def _fits(value: bytes, wanted: int | bytes | None) -> bool:
    if isinstance(wanted, bytes):
        return value == wanted
    return bool(value) if wanted is None else len(value) == wanted
