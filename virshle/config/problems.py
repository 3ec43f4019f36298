"""What is wrong with a configuration, in words: every problem with its key and what is near it."""

from __future__ import annotations

import types
import typing
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from virshle.errors import ConfigError, near

Key = tuple[str | int, ...]


def problems_error(name: str, problems: list[str]) -> ConfigError:
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    return ConfigError(
        f"{name} has {count}",
        hint="mend the file, then: v config check",
        details=[f"{name}: {p}" for p in problems],
    )


def explain(error: ValidationError, model: type[BaseModel], *, secret: bool = False) -> Iterator[str]:
    """A line for each problem that the schema finds; `secret`: without the value, which may be a key."""
    problems = error.errors(include_url=False, include_context=False)
    around = {key[:length] for key in (problem["loc"] for problem in problems) for length in range(len(key))}
    for problem in problems:
        key: Key = problem["loc"]
        if key in around:
            continue  # only says that what is inside is wrong
        path = dotted(key)
        if problem["type"] == "extra_forbidden":
            yield f"{path}: unknown key" + maybe(str(key[-1]), _known_keys(model, key[:-1]))
        elif problem["type"] == "missing":
            yield f"{path}: missing"
        else:
            line = f"{path}: {problem['msg'].removeprefix('Value error, ')}"
            shown = "" if secret else _shown(problem["input"])
            yield line + (f" (it is {shown[:80]})" if shown and shown not in line else "")


def _shown(value: object) -> str:
    if isinstance(value, dict | list | tuple):
        return ""
    try:
        return repr(value)
    except ValueError:
        return "a number of thousands of digits"


def maybe(word: str, known: Iterable[str]) -> str:
    close = near(word, known)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def cross_check(data: dict[str, Any], known_images: Iterable[str]) -> Iterator[str]:
    """What no single key shows, read from the raw file so that it is told beside all else: two of one name, and disks
    of an image that is not there."""
    templates = _tables(_table(data.get("template")).get("vm"))
    images = _tables(data.get("image"))
    for key, tables in (("template.vm", templates), ("image", images)):
        yield from _twice(key, tables)
    known = {*known_images, *_names(images)}
    for t, template in enumerate(templates):
        for kind in ("disk", "net"):
            yield from _twice(dotted(("template", "vm", t, kind)), _tables(template.get(kind)))
        for d, disk in enumerate(_tables(template.get("disk"))):
            image = disk.get("image")
            if isinstance(image, str) and image not in known:
                path = dotted(("template", "vm", t, "disk", d, "image"))
                yield f"{path}: no image named {image!r}" + maybe(image, known)


def _names(tables: list[dict[str, Any]]) -> list[str]:
    return [table["name"] for table in tables if isinstance(table.get("name"), str)]


def _twice(path: str, tables: list[dict[str, Any]]) -> Iterator[str]:
    count = Counter(_names(tables))
    yield from (f"{path}: two are named {name!r}" for name in sorted(count) if count[name] > 1)


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _tables(value: object) -> list[dict[str, Any]]:
    return [_table(item) for item in value] if isinstance(value, list) else []


def dotted(key: Key) -> str:
    """`template.vm[0].disk[1].size`"""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".") or "the file"


def _known_keys(model: type[BaseModel], key: Key) -> list[str]:
    """The keys of the section at `key`. In a table of tables, as `dhcp.fake.pool` is, a name is no key of a section."""
    inner: type[BaseModel] | None = model
    for part in key:
        if isinstance(part, int) or inner is None or part not in inner.model_fields:
            continue
        inner = _section_of(inner.model_fields[part].annotation)
    return list(inner.model_fields) if inner is not None else []


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The model in `X | None`, `tuple[X, ...]`, `Annotated[X, ...]`."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    return next(filter(None, map(_section_of, typing.get_args(annotation))), None)


def unused_keys(section: BaseModel, key: Key = ()) -> Iterator[str]:
    """A line for each key that is set and has no effect."""
    for name in type(section).model_fields:
        if name not in section.model_fields_set:
            continue
        value = getattr(section, name)
        extra = type(section).model_fields[name].json_schema_extra
        if isinstance(extra, dict) and "unused" in extra:
            yield f"{dotted((*key, name))} has no effect: {extra['unused']}"
        items: list[tuple[Key, Any]] = [((*key, name), value)]
        if isinstance(value, tuple):
            items = [((*key, name, index), item) for index, item in enumerate(value)]
        elif isinstance(value, dict):
            items = [((*key, name, index), item) for index, item in value.items()]
        for path, item in items:
            if isinstance(item, BaseModel):
                yield from unused_keys(item, path)
