from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virshle.model.units import LARGEST, format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("1B", 1), ("512MiB", 512 * 2**20), ("2GiB", 2**31), ("1 TiB", 2**40), (" 3KiB ", 3072), ("1048576TiB", 2**60)],
)
def test_a_size_is_a_number_and_a_binary_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2",
        "GiB",
        "2G",
        "2GB",
        "2gib",
        "1.5GiB",
        "-1GiB",
        "+1GiB",
        "0B",
        "0GiB",
        "2GiB2",
        "1e3B",
        "1048577TiB",
        "9" * 16 + "B",
    ],
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match='as in "2GiB"'):
        parse_size(text)


@pytest.mark.parametrize("value", [2, 2.5, None, True, ["2GiB"], {"GiB": 2}])
def test_only_text_is_a_size(value: object) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(value)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (1, "1B"),
        (1023, "1023B"),
        (1024, "1KiB"),
        (1536 * 2**20, "1.5GiB"),
        (2**31, "2GiB"),
        (2**40 - 1, "1024.0GiB"),
    ],
)
def test_sizes_are_shown_in_the_largest_unit(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(1, 1023), st.sampled_from(["B", "KiB", "MiB", "GiB", "TiB"]))
def test_an_exact_size_is_shown_as_it_was_written(count: int, unit: str) -> None:
    assert format_size(parse_size(f"{count}{unit}")) == f"{count}{unit}"


@given(st.integers(1, LARGEST))
def test_what_is_shown_is_the_size_or_within_a_twentieth_of_its_unit(size: int) -> None:
    shown = format_size(size)
    if "." not in shown:
        assert parse_size(shown) == size
    else:
        number, unit = shown.split(".")[0], shown.lstrip("0123456789.")
        assert abs(float(shown.removesuffix(unit)) - size / parse_size(f"1{unit}")) <= 0.0501
        assert int(number) >= 1
