"""Words for what is wrong with a configuration: every problem with its key, and with similar names."""

from __future__ import annotations

import types
import typing
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date, time
from typing import Any

from pydantic import BaseModel, ValidationError

from virshle.errors import ConfigError, near
from virshle.model.words import choices, sentence

Key = tuple[str | int, ...]


TEXT = "utf-8-sig"
"""The encoding of files that people write: some editors put a byte order mark at the beginning."""


def problems_error(name: str, problems: list[str], *, then: str = "") -> ConfigError:
    """`then`: what to do after the file is fixed."""
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    return ConfigError(
        f"{name} has {count}",
        hint=f"fix {'the file' if then else name}{then}",
        details=[f"{name}: {p}" for p in problems],
    )


def explain(error: ValidationError, model: type[BaseModel], *, secret: bool = False) -> Iterator[str]:
    """A line for each problem that the schema finds. `secret`: leave out the value, because it may be a key."""
    problems = error.errors(include_url=False)
    around = {key[:length] for key in (problem["loc"] for problem in problems) for length in range(len(key))}
    for problem in problems:
        key: Key = problem["loc"]
        if key in around:
            continue  # another problem is about a key inside this one, and says more
        line = f"{dotted(key)}: {sentence(problem)}"
        if problem["type"] == "extra_forbidden":
            line += maybe(str(key[-1]), _known_keys(model, key[:-1]))
        elif problem["type"] in ("model_type", "tuple_type"):
            line += _written(model, key)
        elif problem["type"] != "missing":
            shown = "" if secret else _shown(problem["input"])
            already = problem["type"] == "value_error" and shown in line
            line += f" (it is {shown[:80]})" if shown and not already else ""
            if problem["type"] == "literal_error" and not secret:
                line += maybe(str(problem["input"]), choices(problem["ctx"]))
        yield line


def _written(model: type[BaseModel], key: Key) -> str:
    """How TOML writes the section, or the list of sections, at `key`. Empty if `key` is not a section."""
    names = [part for part in key if isinstance(part, str)]
    if not _known_keys(model, key):
        return ""
    header = f"[{'.'.join(names)}]"
    return f", written as {f'[{header}]' if _is_list(model, names) else header}"


def _is_list(model: type[BaseModel], names: list[str]) -> bool:
    inner: type[BaseModel] | None = model
    annotation: Any = None
    for name in names:
        if inner is None or name not in inner.model_fields:
            return False
        annotation = inner.model_fields[name].annotation
        inner = _section_of(annotation)
    return typing.get_origin(annotation) is tuple


def _shown(value: object) -> str:
    """The value as TOML writes it. Empty for tables and lists."""
    if isinstance(value, dict | list | tuple):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, date | time):
        return value.isoformat()
    try:
        return repr(value)
    except ValueError:
        return "a number with thousands of digits"


def maybe(word: str, known: Iterable[str]) -> str:
    close = near(word, known)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def cross_check(data: dict[str, Any], known_images: Iterable[str]) -> Iterator[str]:
    """Problems between keys: two sections with one name, and disks whose image does not exist.

    Reads the raw data, so that these problems are reported together with all others."""
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
                yield f"{path}: there is no image named {image!r}" + maybe(image, known)


def _names(tables: list[dict[str, Any]]) -> list[str]:
    return [table["name"] for table in tables if isinstance(table.get("name"), str)]


def _twice(path: str, tables: list[dict[str, Any]]) -> Iterator[str]:
    count = Counter(_names(tables))
    yield from (f"{path}: more than one is named {name!r}" for name in sorted(count) if count[name] > 1)


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
    """The keys of the section at `key`. In a table of tables, such as `dhcp.fake.pool`, a name is skipped."""
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
