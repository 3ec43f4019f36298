"""All errors that a user can get, with their exit codes.

VirshleError             1  unexpected
├── UsageError           2  the command line is wrong
├── ConfigError          3  the configuration, or something it needs, is wrong or missing
├── NotFoundError        4  there is no such VM, template, image, ...
├── ConflictError        5  the thing is taken, locked, or in the wrong state
├── HostError            6  a host command or the VMM failed
└── TimedOutError        8  a condition did not come true in time

Each error says what failed, why, and what to do next (`hint`).
"""

from __future__ import annotations

from collections.abc import Iterable


class VirshleError(Exception):
    """`message`: what failed and why. `details`: lines that are shown under the message. `hint`: what to do next."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", details: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = list(details)


class UsageError(VirshleError):
    exit_code = 2


class ConfigError(VirshleError):
    exit_code = 3


class NotFoundError(VirshleError):
    exit_code = 4


class ConflictError(VirshleError):
    exit_code = 5


class HostError(VirshleError):
    exit_code = 6


class TimedOutError(VirshleError):
    exit_code = 8


ALIKE = 0.6
"""How similar two words must be, from 0 to 1, so that one may be a typing error for the other: `vcpus` may mean `vcpu`,
but `xxs` does not mean `nixos`."""


def near(word: str, known: Iterable[str], *, alike: float = ALIKE) -> list[str]:
    """The known words that look like `word`, the best first: most letters are the same, or all of them in another
    order."""
    import difflib  # only needed after an error

    names = sorted(set(known))
    folded = {name.casefold(): name for name in names}
    slip = word.casefold()
    mixed = [name for name in folded if sorted(name) == sorted(slip)]
    close = difflib.get_close_matches(slip, list(folded), n=3, cutoff=alike)
    return [folded[hit] for hit in dict.fromkeys([*close, *mixed])][:3] if word else []


def not_found(kind: str, word: str, known: Iterable[str], *, hint: str = "") -> NotFoundError:
    """`no VM named 'wbe'`, with the words that look like it, or with all words if there are few."""
    names = sorted(set(known))
    close = near(word, names)
    if close:
        hint = "did you mean " + " or ".join(close) + "?"
    elif names and len(names) <= 12:
        hint = f"there are: {', '.join(names)}" + (f"; {hint}" if hint else "")
    return NotFoundError(f"no {kind} named {word!r}", hint=hint)
