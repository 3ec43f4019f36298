"""Configurations that share a state folder: those by which its images are used are noted in it, each as a link to the
file, as Nix notes the roots of its garbage collector. So no image is taken for unused because another project names it.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    gone: list[Path] = field(default_factory=list)
    """Links to files that are no more."""

    def names(self, image: str) -> str | None:
        """Who does, or may, as a sentence."""
        if files := self.named.get(image):
            return f"{', '.join(files)} {'names' if len(files) == 1 else 'name'} it"
        unread = [f"{file} may name it, and cannot be read: {why}" for file, why in self.unread.items()]
        return "; ".join(unread) or None


def note_config(node: Node) -> None:
    """For whoever uses an image. Raises HostError."""
    file = node.paths.config
    link = node.layout.configs / sha256(bytes(file)).hexdigest()[:16]
    # What is built in is everybody's; and what `<(...)` gave is another's file, or none, in the next process.
    if link.is_symlink() or not file.is_file() or file.is_relative_to("/dev") or file.is_relative_to("/proc"):
        return
    node.folders()
    with node.apply() as apply:
        apply(Plan("config", [run("note which configuration uses these images", "ln", "-sfnT", "--", file, link)]))
        apply.commit()


def elsewhere(node: Node) -> Elsewhere:
    """Raises HostError where the notes cannot be read."""
    found = Elsewhere()
    for link in _noted(node):
        file = link.readlink()
        if file == node.paths.config:
            continue
        try:
            file.stat()
            config = load(replace(node.paths, config=file))
        except (FileNotFoundError, NotADirectoryError):
            found.gone.append(link)
        except OSError as error:
            found.unread[str(file)] = error.strerror or str(error)
        except ConfigError as error:
            found.unread[str(file)] = error.message
        else:
            for name in images_named(config):
                found.named.setdefault(name, []).append(str(file))
    return found


def _noted(node: Node) -> list[Path]:
    folder = node.layout.configs
    with explained("see which configurations use the images"):
        return sorted(link for link in folder.iterdir() if link.is_symlink()) if folder.is_dir() else []


def images_named(config: Config) -> set[str]:
    """By its templates, but for images that are files of somebody's own."""
    named = (disk.image for template in config.templates.values() for disk in template.disk if disk.image is not None)
    return {name for name in named if config.images[name].path is None or config.origins["image", name] == IMPORTED}


def forget(gone: list[Path]) -> Iterator[Step]:
    for link in gone:
        yield run(f"forget a configuration that is gone: {link.readlink()}", "rm", "-f", "--", link)
