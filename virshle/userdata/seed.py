"""The seed: a small vfat disk labelled CIDATA, which cloud-init reads as NoCloud and simple guests read by
`meta-data` and a plain `authorized_keys` (cloud-init: reference/datasources/nocloud)."""

from __future__ import annotations

from pathlib import Path

from virshle.model.vm import Vm
from virshle.plan import Step, Write, run
from virshle.render import render

_KIB = 1024


def seed_steps(vm: Vm, folder: Path, image: Path) -> list[Step]:
    """Made of nothing but the VM's definition, anew at each start; the texts are in `folder`/seed."""
    texts = {
        "meta-data": render("meta-data.j2", uuid=str(vm.uuid), name=vm.name),
        "user-data": render("user-data.j2", login=vm.login, authorized_keys=list(vm.authorized_keys), users=vm.users),
        "authorized_keys": "".join(f"{key}\n" for key in vm.authorized_keys),
    }
    files = {folder / "seed" / name: text for name, text in texts.items()}
    inside = [path.relative_to(folder) for path in (image, *files)]
    return [
        run("make the folder of the guest's texts", "mkdir", "-p", "--", folder / "seed"),
        *(Write(f"tell the guest: {path.name}", path, text) for path, text in files.items()),
        run("drop the seed disk of the last start", "rm", "-f", "--", image),
        run("make the seed disk", "mkfs.vfat", "-n", "CIDATA", "-C", image, str(_KIB)),
        # Beginning in the VM's folder: mtools gives a path with a $, say, to `sh -c` (mtools: misc.c, expand).
        run("fill it", "mcopy", "-oi", *inside, "::", env={"MTOOLS_SKIP_CHECK": "1"}, cwd=folder),
    ]
