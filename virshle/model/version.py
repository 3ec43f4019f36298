"""The version of vm.json's schema, the way to it from every earlier one, and bounds that also those keep who read it
without the schema."""

from collections.abc import Callable
from typing import Any, Literal

VERSION: Literal[3] = 3
"""A newer one is refused, never rewritten."""
LARGEST_ID = 2**31 - 1
LONGEST_CLOUD_CONFIG = 2**18
"""Bytes: it is in vm.json, which is read whole, and on a seed disk of 1 MiB."""
MOST_VCPUS = 1024
FIRST = 1
"""That of a vm.json that names none."""

UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    # The second may say by which flake its image was built.
    1: dict,
    # The third may have a cloud-config.
    2: lambda data: {**data, "cloud_config": None},
}
"""From each earlier version to the next: what vm.json held, as that would have written it."""


class NewerError(ValueError):
    """Made by a newer virshle."""


def upgrade(data: dict[str, Any]) -> dict[str, Any]:
    """What a vm.json of an earlier version would hold now; the same object where that is what it holds. Raises
    NewerError, and ValueError for what no virshle wrote."""
    version = data.get("version", FIRST)
    if type(version) is not int:
        return data  # told with all else that is wrong, by who checks it
    if version > VERSION:
        raise NewerError(f"schema {version}, made by a newer virshle; this one reads up to {VERSION}")
    while version < VERSION:
        if version not in UPGRADES:
            raise ValueError(f"it has schema {version}, which no virshle wrote")
        try:
            data = UPGRADES[version](data)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it is not of schema {version}, as it says: {error!r}") from error
        version += 1
        data = {**data, "version": version}
    return data
