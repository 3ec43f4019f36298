"""Reads the configuration. Reports every problem at once, each with its file, its key and similar names."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from virshle.config.paths import Paths, find_paths
from virshle.config.problems import TEXT, cross_check, explain, problems_error, unused_keys
from virshle.config.schema import ConfigFile, ImageConfig, VmTemplate
from virshle.errors import ConfigError, not_found
from virshle.fs import expand, read_given

BUILT_IN = "built in"
IMPORTED = "imported"
_THEN = ", then: v config check"


@dataclass(frozen=True)
class Config:
    paths: Paths
    templates: dict[str, VmTemplate]
    images: dict[str, ImageConfig]
    origins: dict[tuple[str, str], str]
    """File of each `("template" or "image", name)`, or BUILT_IN or IMPORTED."""
    warnings: list[str]

    def template(self, name: str) -> VmTemplate:
        if name not in self.templates:
            raise not_found("template", name, self.templates, hint="`v template ls` lists them")
        return self.templates[name]

    def local(self, path: str) -> Path:
        """A path in the configuration, absolute. Raises ConfigError."""
        return expand(path, self.paths.config.parent)

    def image(self, name: str) -> ImageConfig:
        if name not in self.images:
            raise not_found("image", name, self.images, hint="`v image ls` lists them")
        return self.images[name]


def load(paths: Paths | None = None) -> Config:
    """The built-in configuration, with the user's file on top. Raises ConfigError with every problem in its details."""
    paths = paths or find_paths()
    built_in = _parse(resources.files("virshle.config").joinpath("builtin.toml").read_text(), BUILT_IN)
    name = str(paths.config)
    # The file must exist if the user named it.
    wanted = paths.config.exists() or paths.origins["config"] == "VIRSHLE_CONFIG"
    imported = ConfigFile(image=tuple(_imported(paths)))
    known = [image.name for section in (built_in, imported) for image in section.image]
    own = _parse(_read(paths), name, known) if wanted else None
    templates: dict[str, VmTemplate] = {}
    images: dict[str, ImageConfig] = {}
    origins: dict[tuple[str, str], str] = {}
    for origin, section in ((BUILT_IN, built_in), (IMPORTED, imported), (name, own)):
        if section is None:
            continue
        for template in section.template.vm:
            templates[template.name] = template
            origins["template", template.name] = origin
        for image in section.image:
            images[image.name] = image
            origins["image", image.name] = origin
    own = own or ConfigFile()
    warnings = [f"{name}: {line}" for line in unused_keys(own)]
    return Config(paths, templates, images, origins, warnings)


def _imported(paths: Paths) -> Iterator[ImageConfig]:
    """Images that need no configuration: `v image import` put them into the state folder."""
    for folder in sorted(paths.images.iterdir()) if paths.images.is_dir() else ():
        with suppress(ValidationError, OSError):
            disk = paths.imported(folder.name)
            if disk.is_file():
                yield ImageConfig(name=folder.name, path=str(disk))


def _read(paths: Paths) -> str:
    try:
        return read_given(paths.config).decode(TEXT)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(
            f"cannot read {paths.config}: {reason}", hint=f"this path comes from: {paths.origins['config']}"
        ) from error


def _parse(text: str, name: str, known_images: Iterable[str] = ()) -> ConfigFile:
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # tomllib does not only raise its own error: for a number of 5,000 digits, Python raises a plain ValueError.
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(f"{name} is not valid TOML: {reason}", hint=f"fix that line{_THEN}") from error
    problems = list(cross_check(data, known_images))
    try:
        section = ConfigFile.model_validate(data)
    except ValidationError as error:
        raise problems_error(name, [*explain(error, ConfigFile), *problems], then=_THEN) from error
    if problems:
        raise problems_error(name, problems, then=_THEN)
    return section


def provenance(config: Config) -> Iterator[tuple[str, object, str]]:
    """For every value: its key, the value, and where the value comes from."""
    for name in ("state", "run", "config"):
        yield f"paths.{name}", str(getattr(config.paths, name)), config.paths.origins[name]
    groups: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("template", "template.vm", config.templates),
        ("image", "image", config.images),
    )
    for kind, prefix, sections in groups:
        for name, section in sections.items():
            for key, value, explicit in _values(section):
                if key != "name":
                    yield (
                        f"{prefix}.{name}.{key}",
                        value,
                        config.origins[kind, name] if explicit else "default",
                    )


def _values(section: BaseModel, prefix: str = "", explicit: bool = True) -> Iterator[tuple[str, object, bool]]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        said = explicit and name in section.model_fields_set
        if isinstance(field.json_schema_extra, dict) and "unused" in field.json_schema_extra:
            continue
        if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            for item in value:
                yield from _values(item, f"{prefix}{name}.{getattr(item, 'name', '')}.", said)
        elif isinstance(value, BaseModel):
            kind = getattr(value, "kind", None)
            yield from [(f"{prefix}{name}", kind, said)] if kind else _values(value, f"{prefix}{name}.", said)
        elif value is not None and value != () and value != {}:
            yield f"{prefix}{name}", value, said
