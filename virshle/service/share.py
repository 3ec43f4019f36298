"""Several configurations can share a state folder. The folder has a link to each configuration file that uses its
images, as Nix has links for the roots of its garbage collector. So an image that another project names counts as used.
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
    """The images that other configurations name."""

    named: dict[str, list[str]] = field(default_factory=dict)
    """For each image, the configuration files that name it."""
    unread: dict[str, str] = field(default_factory=dict)
    """Files that exist but cannot be read, and why. Each of them may name any image."""
    gone: dict[Path, Path] = field(default_factory=dict)
    """Links to files that do not exist any more, with the path of the file."""

    def names(self, image: str) -> str | None:
        """A sentence that says which files name the image, or may name it; None if there are none."""
        if files := self.named.get(image):
            return f"{', '.join(files)} {'names' if len(files) == 1 else 'name'} it"
        unread = [f"{file} may name it, but cannot be read: {why}" for file, why in self.unread.items()]
        return "; ".join(unread) or None


def note_config(node: Node) -> None:
    """Notes this configuration. Called by each command that uses an image. Raises HostError."""
    node.folders()
    file = node.paths.config
    link = node.layout.configs / sha256(bytes(file)).hexdigest()[:16]
    # Every configuration has the built-in images. A path from `<(...)` is another file, or none, in the next process.
    if link.is_symlink() or not file.is_file() or file.is_relative_to("/dev") or file.is_relative_to("/proc"):
        return
    with node.apply() as apply:
        apply(Plan("config", [run("note which configuration uses these images", "ln", "-sfnT", "--", file, link)]))
        apply.commit()


def elsewhere(node: Node) -> Elsewhere:
    """Raises HostError if the links cannot be read."""
    found = Elsewhere()
    for link, file in _noted(node).items():
        if file == node.paths.config:
            continue
        try:
            if not stat.S_ISREG(file.stat().st_mode):
                raise ConfigError("it is not a file")
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
    """Each link and its target. A link that another `gc` removes at this moment is left out."""
    folder, found = node.layout.configs, {}
    with explained("see which configurations use the images"):
        for link in sorted(folder.iterdir()) if folder.is_dir() else ():
            if link.is_symlink():
                with suppress(FileNotFoundError):
                    found[link] = link.readlink()
    return found


def images_named(config: Config) -> set[str]:
    """The images that its templates name, without images that are the user's own files."""
    named = (disk.image for template in config.templates.values() for disk in template.disk if disk.image is not None)
    return {name for name in named if config.images[name].path is None or config.origins["image", name] == IMPORTED}


def forget(gone: dict[Path, Path]) -> Iterator[Step]:
    for link, file in gone.items():
        yield run(f"forget a configuration that is gone: {file}", "rm", "-f", "--", link)
