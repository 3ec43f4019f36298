"""Texts made from templates (jinja2, the *.j2 files beside this one). What is put into YAML is JSON-quoted, what is put
into shell is shell-quoted."""

from __future__ import annotations

import functools
import json
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


@functools.cache
def _environment() -> Environment:
    # Costs more than most commands take.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("virshle", "render"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # JSON is YAML, so a JSON string is a YAML string whatever is in it.
    environment.filters["yaml"] = lambda value: json.dumps(value, ensure_ascii=True)
    environment.filters["sh"] = lambda value: shlex.quote(str(value))
    return environment


def render(template: str, /, **values: object) -> str:
    """The text of the file `template`; a value that it wants and does not get is an error."""
    return _environment().get_template(template).render(**values)
