"""Names for shell completion. They are read fast, because a user waits for them after a key press.

Nothing is checked. A file that cannot be read gives no names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from virshle.config.paths import Paths, find_paths
from virshle.errors import VirshleError

_BUILT_IN = Path(__file__).with_name("builtin.toml")


def vm_names() -> list[str]:
    return _sorted(lambda paths: (link.name for link in paths.names.iterdir()))


def template_names() -> list[str]:
    return _sorted(lambda paths: _configured(paths, lambda data: data["template"]["vm"]))


def image_names() -> list[str]:
    return _sorted(_images)


def _images(paths: Paths) -> Iterator[str]:
    yield from _configured(paths, lambda data: data["image"])
    with suppress(OSError):
        yield from (folder.name for folder in paths.images.iterdir() if paths.imported(folder.name).is_file())


def _sorted(names: Callable[[Paths], Iterator[str]]) -> list[str]:
    found: set[str] = set()
    with suppress(OSError, VirshleError):
        for name in names(find_paths()):
            found.add(name)
    return sorted(name for name in found if not name.startswith("."))


def _configured(paths: Paths, tables: Callable[[dict[str, Any]], list[dict[str, Any]]]) -> Iterator[str]:
    # The schema would check the whole file, which takes too long after a key press.
    import tomllib

    for file in (_BUILT_IN, paths.config):
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            if file.is_file():
                yield from [
                    table["name"] for table in tables(tomllib.loads(file.read_text("utf-8-sig"))) if _is_text(table)
                ]


def _is_text(table: dict[str, Any]) -> bool:
    return isinstance(table.get("name"), str)
