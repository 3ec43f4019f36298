"""Configurations that share a state folder: those by which its images are used are noted in it, each as a link to the
file, as Nix notes the roots of its garbage collector. So no image is taken for unused because another project names it.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from virshle.config.load import IMPORTED, Config, load
from virshle.errors import ConfigError
from virshle.fs import explained
from virshle.plan import Plan, Step, run
from virshle.service.node import Node


@dataclass(frozen=True)
class Elsewhere:
    """What the other configurations name."""

    named: dict[str, list[str]] = field(default_factory=dict)
    """Of each image, the files that name it."""
    unread: dict[str, str] = field(default_factory=dict)
    """Files that are there and cannot be read, and why: each may name any image."""
    gone: dict[Path, Path] = field(default_factory=dict)
    """Links to files that are no more, and to which."""

    def names(self, image: str) -> str | None:
        """Who does, or may, as a sentence."""
        if files := self.named.get(image):
            return f"{', '.join(files)} {'names' if len(files) == 1 else 'name'} it"
        unread = [f"{file} may name it, and cannot be read: {why}" for file, why in self.unread.items()]
        return "; ".join(unread) or None


def note_config(node: Node) -> None:
    """For whoever uses an image. Raises HostError."""
    node.folders()
    file = node.paths.config
    link = node.layout.configs / sha256(bytes(file)).hexdigest()[:16]
    # What is built in is everybody's; and what `<(...)` gave is another's file, or none, in the next process.
    if link.is_symlink() or not file.is_file() or file.is_relative_to("/dev") or file.is_relative_to("/proc"):
        return
    with node.apply() as apply:
        apply(Plan("config", [run("note which configuration uses these images", "ln", "-sfnT", "--", file, link)]))
        apply.commit()


def elsewhere(node: Node) -> Elsewhere:
    """Raises HostError where the notes cannot be read."""
    found = Elsewhere()
    for link, file in _noted(node).items():
        if file == node.paths.config:
            continue
        try:
            if not stat.S_ISREG(file.stat().st_mode):
                raise ConfigError("it is no file")
            config = load(replace(node.paths, config=file))
        except (FileNotFoundError, NotADirectoryError):
            found.gone[link] = file
        except OSError as error:
            found.unread[str(file)] = error.strerror or str(error)
        except ConfigError as error:
            found.unread[str(file)] = ": ".join([error.message, *error.details[:1]])
        else:
            for name in images_named(config):
                found.named.setdefault(name, []).append(str(file))
    return found


def _noted(node: Node) -> dict[Path, Path]:
    """Each link, and where it leads. One that another `gc` forgets in this moment is none."""
    folder, found = node.layout.configs, {}
    with explained("see which configurations use the images"):
        for link in sorted(folder.iterdir()) if folder.is_dir() else ():
            if link.is_symlink():
                with suppress(FileNotFoundError):
                    found[link] = link.readlink()
    return found


def images_named(config: Config) -> set[str]:
    """By its templates, but for images that are files of somebody's own."""
    named = (disk.image for template in config.templates.values() for disk in template.disk if disk.image is not None)
    return {name for name in named if config.images[name].path is None or config.origins["image", name] == IMPORTED}


def forget(gone: dict[Path, Path]) -> Iterator[Step]:
    for link, file in gone.items():
        yield run(f"forget a configuration that is gone: {file}", "rm", "-f", "--", link)
