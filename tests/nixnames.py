"""Which names of nixpkgs a Nix file uses: of packages, of lib, of NixOS options. It reads as much of Nix's syntax as
our own files need, and starts no process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

Path = tuple[str, ...]
_TOKEN = re.compile(
    r"""\s+ | \#[^\n]* | /\*.*?\*/
    | (?P<string>"|'')
    | (?P<path><[\w./-]+> | \.{0,2}/[\w./+-]+)
    | (?P<name>[A-Za-z_][\w'-]*)
    | (?P<other>\.\.\. | // | \+\+ | -> | == | != | <= | >= | && | \|\| | \$\{ | .)""",
    re.VERBOSE | re.DOTALL,
)
_SPECIAL = {"assert", "else", "if", "in", "inherit", "let", "or", "rec", "then", "with"}
_ENDS = {";", ",", ")", "]", "}", "in", "then", "else", ""}


def _tokens(text: str) -> Iterator[str]:
    """Of a string one token, its quote and its text, and then the code in it, in parentheses."""
    at = 0
    while at < len(text):
        hit = _TOKEN.match(text, at)
        assert hit is not None
        at = hit.end()
        if hit["string"]:
            said, codes, at = _string(text, at, hit["string"])
            yield '"' + said
            for code in codes:
                yield from ("(", *_tokens(code), ")")
        elif found := hit["path"] or hit["name"] or hit["other"]:
            yield found


def _string(text: str, at: int, quote: str) -> tuple[str, list[str], int]:
    start, codes = at, []
    escapes = ("\\",) if quote == '"' else ("''$", "'''", "''\\")
    while not text.startswith(quote, at) or text.startswith(escapes, at):
        if escape := next((one for one in escapes if text.startswith(one, at)), None):
            at += len(escape) + (escape == "\\")
        elif text.startswith("${", at):
            end = _closing(text, at + 2)
            codes.append(text[at + 2 : end])
            at = end + 1
        else:
            at += 1
    return text[start:at], codes, at + len(quote)


def _closing(text: str, at: int) -> int:
    depth = 1
    while True:
        hit = _TOKEN.match(text, at)
        assert hit is not None
        if hit["string"]:
            at = _string(text, hit.end(), hit["string"])[2]
            continue
        depth += (hit["other"] in ("{", "${")) - (hit["other"] == "}")
        if depth == 0:
            return at
        at = hit.end()


@dataclass
class NixFile:
    """What is read (`pkgs.mtools`) and what is defined (`boot.loader.timeout = ..`).

    Names that `let` gave are resolved."""

    text: str
    reads: list[Path] = field(default_factory=list)
    defines: list[Path] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    """Of all functions that take a set."""

    def __post_init__(self) -> None:
        self._tokens = [*_tokens(self.text), "", ""]
        self._at = 0
        self._called: dict[str, Path] = {}
        self._expression(())

    def _next(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]

    def _is(self, *words: str) -> bool:
        return self._tokens[self._at] in words

    def _expression(self, prefix: Path | None) -> None:
        """To what ends it. `prefix`: of the option whose value it is; None where it is none."""
        while not self._is(*_ENDS):
            token = self._next()
            if token == "{":
                self._arguments() if self._is_function() else self._bindings(prefix, "}")
            elif token == "let":
                self._bindings(None, "in")
            elif token == "with":
                self._with(prefix)
            elif token in ("(", "[", "${"):
                inside = None if token == "${" else prefix
                while not self._is(")", "]", "}"):
                    self._expression(inside)
                self._next()
            elif token == "if":
                for branch in (None, prefix, prefix):
                    self._expression(branch)
                    if not self._is(*_ENDS - {"then", "else"}):
                        self._next()
            elif _is_name(token):
                self._read(token)

    def _read(self, token: str) -> None:
        path = [token]
        while self._is(".") and (_is_name(self._tokens[self._at + 1]) or self._tokens[self._at + 1][:1] == '"'):
            self._next()
            path.append(self._next().removeprefix('"'))
        self.reads.append(self._resolved(tuple(path)))

    def _resolved(self, path: Path) -> Path:
        return (*self._called[path[0]], *path[1:]) if path[0] in self._called else path

    def _with(self, prefix: Path | None) -> None:
        before = len(self.reads)
        self._expression(None)
        (whose,) = self.reads[before:]
        self._next()
        if self._is("["):
            before = len(self.reads)
            self._next()
            self._expression(prefix)
            self._next()
            self.reads[before:] = [(*whose, *path) for path in self.reads[before:]]

    def _is_function(self) -> bool:
        depth, at = 1, self._at
        while depth:
            depth += (self._tokens[at] in ("{", "${")) - (self._tokens[at] == "}")
            at += 1
        return self._tokens[at] in (":", "@")

    def _arguments(self) -> None:
        while not self._is("}"):
            token = self._next()
            if _is_name(token):
                self.arguments.append(token)
            elif token == "?":
                self._expression(None)
        self._next()

    def _bindings(self, prefix: Path | None, end: str) -> None:
        while not self._is(end):
            if self._is("inherit"):
                self._inherit(prefix)
            else:
                self._binding(prefix)
            self._next()
        self._next()

    def _inherit(self, prefix: Path | None) -> None:
        self._next()
        whose: Path | None = None
        if self._is("("):
            before = len(self.reads)
            self._next()
            self._expression(None)
            self._next()
            whose = self.reads[before] if len(self.reads) > before else None
        while not self._is(";"):
            name = self._next().removeprefix('"')
            if whose is not None:
                self.reads.append((*whose, name))
                self._called[name] = (*whose, name)
            if prefix is not None:
                self.defines.append((*prefix, name))

    def _binding(self, prefix: Path | None) -> None:
        path: list[str] = []
        while not self._is("="):
            token = self._next()
            if token == "${":
                self._expression(None)
                self._next()
                path.append("*")
            elif token == "(":  # code in a quoted name
                self._expression(None)
                self._next()
            elif token != ".":
                path.append(token.removeprefix('"'))
        self._next()
        start, before, defined = self._at, len(self.reads), len(self.defines)
        whole = None if prefix is None else (*prefix, *path)
        self._expression(whole)
        if whole is not None and len(self.defines) == defined:
            self.defines.append(whole)
        words = self._tokens[start : self._at]
        if prefix is None and len(self.reads) == before + 1 and all(_is_name(w) or w[0] in '."' for w in words):
            self._called[path[0]] = self.reads[-1]


def _is_name(token: str) -> bool:
    return re.fullmatch(r"[A-Za-z_][\w'-]*", token) is not None and token not in _SPECIAL
