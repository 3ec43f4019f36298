"""The seed: a small vfat disk labelled CIDATA, which cloud-init reads as NoCloud (cloud-init:
reference/datasources/nocloud). Simple guests read `meta-data` and two plain files, `authorized_keys` and `users`."""

from __future__ import annotations

from base64 import encodebytes
from pathlib import Path

from virshle.model.vm import Vm
from virshle.plan import Step, Write, run
from virshle.render import render

_KIB = 1024


def seed_steps(vm: Vm, folder: Path, image: Path) -> list[Step]:
    """Makes the seed disk again at each start, from the VM's definition alone. The texts are in `folder`/seed."""
    people = _people(vm)
    texts = {
        "meta-data": render("meta-data.j2", uuid=str(vm.uuid), name=vm.name),
        "user-data": _user_data(vm, people),
        "authorized_keys": "".join(f"{key}\n" for key in people[vm.login]),
    }
    if users := "".join(_lines(name, keys) for name, keys in people.items() if name != "root" or vm.login != "root"):
        texts["users"] = users
    files = {folder / "seed" / name: text for name, text in texts.items()}
    inside = [path.relative_to(folder) for path in (image, *files)]
    return [
        run("make the folder of the guest's texts", "mkdir", "-p", "--", folder / "seed"),
        *(Write(f"write for the guest: {path.name}", path, text) for path, text in files.items()),
        run("remove the seed disk of the last start", "rm", "-f", "--", image),
        run("make the seed disk", "mkfs.vfat", "-n", "CIDATA", "-C", image, str(_KIB)),
        # Paths are relative to the VM's folder: mtools gives a path with, for example, a $ to `sh -c` (mtools: misc.c,
        # expand).
        run("fill the seed disk", "mcopy", "-oi", *inside, "::", env={"MTOOLS_SKIP_CHECK": "1"}, cwd=folder),
    ]


def _people(vm: Vm) -> dict[str, list[str]]:
    """The keys of each user. The login user is first. `vm.users` may name it again."""
    people = {vm.login: list(vm.authorized_keys)}
    for user in vm.users:
        keys = people.setdefault(user.name, [])
        keys += [key for key in user.authorized_keys if key not in keys]
    return people


def _lines(name: str, keys: list[str]) -> str:
    return "".join(f"{name} {key}\n" for key in keys) or f"{name}\n"


def _user_data(vm: Vm, people: dict[str, list[str]]) -> str:
    ours = render("user-data.j2", login=vm.login, people=people)
    if vm.cloud_config is None:
        return ours
    boundary = "virshle"
    while f"--{boundary}" in vm.cloud_config:
        boundary += "-"
    # cloud-init merges our text into the caller's: the caller's values stay, and our users come before the caller's
    # (cloud-init: reference/merging; if two users have one name, the keys of the first count: distros/ug_util.py).
    return "".join(
        (
            f'Content-Type: multipart/mixed; boundary="{boundary}"\nMIME-Version: 1.0\n\n',
            f"--{boundary}\n{_part(vm.cloud_config)}",
            f"--{boundary}\nX-Merge-Type: list(prepend)+dict(no_replace,recurse_list)+str()\n{_part(ours)}",
            f"--{boundary}--\n",
        )
    )


def _part(text: str) -> str:
    # Releases of cloud-init decode text differently if it is not ASCII and not encoded.
    encoding, body = ("7bit", text) if text.isascii() else ("base64", encodebytes(text.encode()).decode())
    return f'Content-Type: text/cloud-config; charset="utf-8"\nContent-Transfer-Encoding: {encoding}\n\n{body}\n'
