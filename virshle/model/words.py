"""Plain words for the problems that pydantic finds. They replace pydantic's own words and regular expressions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import AfterValidator


def written_as(pattern: str, words: str) -> AfterValidator:
    """A validator for text that must match `pattern`. `words` follow the key in the message: "must be ..."."""
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ValueError(_UTF_8)  # half of a surrogate pair, which UTF-8 cannot encode
        if not compiled.fullmatch(text):
            raise ValueError(words)
        return text

    return AfterValidator(check)


_UTF_8 = "must be valid UTF-8 text"
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
    "string_pattern_mismatch": "has characters that are not allowed",
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
    "union_tag_invalid": lambda context: f"must have one of these kinds: {_quoted(context['expected_tags'])}",
    "union_tag_not_found": "must say which kind it is",
    "json_invalid": lambda context: f"it is not JSON{_place(context['error'])}",
    "json_type": "it is not JSON",
    "recursion_loop": "is nested too deeply",
}
"""The words for each type of pydantic's errors (pydantic: docs/errors/validation_errors.md)."""
NO_WORDS = "is not right"


def sentence(problem: Mapping[str, Any]) -> str:
    """The text that follows the key, for one entry of `ValidationError.errors()`. Our own validators have their own
    words."""
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    words = _WORDS.get(problem["type"], NO_WORDS)
    return words if isinstance(words, str) else words(problem.get("ctx", {}))


def choices(context: Mapping[str, Any]) -> list[str]:
    """The allowed words, from the context of a literal_error."""
    return re.findall(r"'([^']*)'", context["expected"]) or [context["expected"]]


def _place(text: str) -> str:
    hit = re.search(r"line (\d+) column (\d+)", text)
    return f": see line {hit[1]}, character {hit[2]}" if hit else ""


def _quoted(tags: str) -> str:
    return tags.replace("'", "")
