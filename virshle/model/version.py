"""The version of vm.json's schema, the upgrades from earlier versions, and some limits of its values.

The limits are here because some code reads vm.json without the schema and must check the same limits."""

from collections.abc import Callable
from typing import Any, Literal

VERSION: Literal[3] = 3
"""A vm.json with a newer version is refused, and never rewritten."""
LARGEST_ID = 2**31 - 1
LONGEST_CLOUD_CONFIG = 2**18
"""Bytes. The cloud-config is in vm.json, which is read as a whole, and on a seed disk of 1 MiB."""
MOST_VCPUS = 1024
FIRST = 1
"""The version of a vm.json that has no version."""

UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    # Version 2 may name the flake that built the image.
    1: dict,
    # Version 3 may have a cloud-config.
    2: lambda data: {**data, "cloud_config": None},
}
"""For each earlier version: turns its data into the data of the next version."""


class NewerError(ValueError):
    """A newer virshle wrote the vm.json."""


def upgrade(data: dict[str, Any]) -> dict[str, Any]:
    """The data of vm.json in the present version; the same object if it already has that version.

    Raises NewerError if the version is newer, and ValueError if no virshle wrote such data."""
    version = data.get("version", FIRST)
    if type(version) is not int:
        return data  # the schema check of the caller reports it with all other problems
    if version > VERSION:
        raise NewerError(f"schema {version}, made by a newer virshle; this one reads up to {VERSION}")
    while version < VERSION:
        if version not in UPGRADES:
            raise ValueError(f"it has schema {version}, and no virshle ever wrote that schema")
        try:
            data = UPGRADES[version](data)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it says that it has schema {version}, but its data does not fit: {error!r}") from error
        version += 1
        data = {**data, "version": version}
    return data
