"""What pydantic finds wrong with a value, in words for the person who wrote it: neither pydantic's nor a regular
expression's."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import AfterValidator


def written_as(pattern: str, words: str) -> AfterValidator:
    """For a text of that pattern; `words` follow the key: "must be ..."."""
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ValueError(_UTF_8)  # half a character, which no file can hold
        if not compiled.fullmatch(text):
            raise ValueError(words)
        return text

    return AfterValidator(check)


_UTF_8 = "must be text that is UTF-8"
_NUMBER = "must be a whole number, without quotes"
_TIME = "must be a time, as in 2024-05-06T07:08:09Z"
_UUID = "must be a uuid, as uuidgen prints one"
_WORDS: dict[str, str | Callable[[Mapping[str, Any]], str]] = {
    "missing": "missing",
    "extra_forbidden": "unknown key",
    "string_type": "must be text, in quotes",
    "string_too_short": "must not be empty",
    "string_too_long": lambda context: f"must be at most {context['max_length']} characters long",
    "string_unicode": _UTF_8,
    "string_pattern_mismatch": "holds characters that it must not hold",
    "int_type": _NUMBER,
    "int_parsing": _NUMBER,
    "int_from_float": _NUMBER,
    "finite_number": _NUMBER,
    "int_parsing_size": "is too large",
    "greater_than": lambda context: f"must be more than {context['gt']}",
    "greater_than_equal": lambda context: f"must be {context['ge']} or more",
    "less_than_equal": lambda context: f"must be {context['le']} or less",
    "bool_type": "must be true or false, without quotes",
    "bool_parsing": "must be true or false, without quotes",
    "literal_error": lambda context: f"must be one of {', '.join(choices(context))}",
    "tuple_type": "must be a list",
    "too_short": "must have at least one entry",
    "too_long": lambda context: f"must have at most {context['max_length']} entries",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "uuid_type": _UUID,
    "uuid_parsing": _UUID,
    "datetime_type": _TIME,
    "datetime_parsing": _TIME,
    "datetime_from_date_parsing": _TIME,
    "datetime_object_invalid": _TIME,
    "timezone_naive": _TIME,
    "union_tag_invalid": lambda context: f"must be of one of these kinds: {_quoted(context['expected_tags'])}",
    "union_tag_not_found": "does not say of which kind it is",
    "json_invalid": lambda context: f"it is no JSON{_place(context['error'])}",
    "json_type": "it is no JSON",
    "recursion_loop": "is nested too deeply",
}
"""By the type of pydantic's error (pydantic: docs/errors/validation_errors.md)."""
NO_WORDS = "is not right"


def sentence(problem: Mapping[str, Any]) -> str:
    """Of one of `ValidationError.errors()`: what follows the key. Our own validators have their own words."""
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    words = _WORDS.get(problem["type"], NO_WORDS)
    return words if isinstance(words, str) else words(problem.get("ctx", {}))


def choices(context: Mapping[str, Any]) -> list[str]:
    """Of a literal_error: the words that are allowed."""
    return re.findall(r"'([^']*)'", context["expected"]) or [context["expected"]]


def _place(text: str) -> str:
    hit = re.search(r"line (\d+) column (\d+)", text)
    return f": see line {hit[1]}, character {hit[2]}" if hit else ""


def _quoted(tags: str) -> str:
    return tags.replace("'", "")
