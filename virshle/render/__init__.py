"""Makes texts from templates (jinja2, the *.j2 files in this folder). Values in YAML are quoted as JSON, values in
shell are quoted for the shell."""

from __future__ import annotations

import functools
import json
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


@functools.cache
def _environment() -> Environment:
    # This import takes more time than most commands.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("virshle", "render"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # All JSON is YAML, so any JSON string is also a YAML string.
    environment.filters["yaml"] = lambda value: json.dumps(value, ensure_ascii=True)
    environment.filters["sh"] = lambda value: shlex.quote(str(value))
    return environment


def render(template: str, /, **values: object) -> str:
    """The text of the file `template`. It is an error if a value for the template is missing."""
    return _environment().get_template(template).render(**values)
