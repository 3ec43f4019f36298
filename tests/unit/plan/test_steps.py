from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.unit.support import Condition
from virshle.plan import Call, Contains, Gone, Plan, Replies, Wait, Write, run
from virshle.rpc import Qmp


def _read_heredoc(shell: str) -> tuple[list[str], str, list[str]]:
    """What a shell would make of it: the command with stdin, its stdin, the command after it."""
    first, _, rest = shell.partition("\n")
    command, _, mark = first.rpartition("<<")
    (word,) = shlex.split(mark)
    assert mark != word, "unquoted, the text would be expanded"
    lines = rest.split("\n")
    end = lines.index(word)
    return shlex.split(command), "".join(f"{line}\n" for line in lines[:end]), shlex.split("\n".join(lines[end + 1 :]))


_TEXTS = [
    "plain\n",
    "",
    "two\nlines\n",
    "\n\n",
    "EOF\n",
    "a\nEOF\nb\nEOF_\n",
    "EOF_\n",
    " EOF\nEOF \n",
    "$HOME `id` \\ ' \" $(x)\n",
    "é\x0bEOF\x85\n",
    "\tx\n",
]


@pytest.mark.parametrize("text", _TEXTS)
def test_a_write_shows_the_very_text_it_writes(text: str) -> None:
    install, stdin, _ = _read_heredoc(Write("why", Path("/p/f"), text).shell())
    assert stdin == text
    assert install == ["install", "-m", "0600", "/dev/stdin", "/p/f.new"]


def test_a_write_is_of_lines_as_a_here_document_is() -> None:
    with pytest.raises(ValueError, match="must end with a newline"):
        Write("why", Path("/p/f"), "no newline at its end")


@pytest.mark.parametrize("path", ["/p/f", "/p/a b", "/p/it's", '/p/"$x"', "/p/a;b"])
def test_a_write_quotes_its_path_and_ends_with_a_rename(path: str) -> None:
    install, _, move = _read_heredoc(Write("why", Path(path), "t\n", mode=0o644).shell())
    assert install == ["install", "-m", "0644", "/dev/stdin", f"{path}.new"]
    assert move == ["mv", "-T", f"{path}.new", path]


def test_a_run_shows_its_command() -> None:
    step = run("why", "cp", "--", Path("/a b"), "/c", env={"X": "1"}, timeout=3, ok=(0, 1))
    assert step.shell() == "X=1 cp -- '/a b' /c"
    assert (step.command.timeout, step.command.ok, step.command.argv) == (3, (0, 1), ("cp", "--", "/a b", "/c"))


def test_a_call_shows_its_request() -> None:
    request = Qmp(Path("/r/qmp.sock"), "system_powerdown")
    assert Call("press it", request).shell() == request.shell()


def test_a_wait_shows_a_bounded_loop() -> None:
    step = Wait("it", Contains(Path("/r/a b"), "READY=1"), 30)
    assert shlex.split(step.shell()) == [
        *("timeout", "30", "bash", "-c"),
        "until head -c 65536 -- '/r/a b' 2>/dev/null | grep -qxF READY=1; do sleep 0.1; done",
    ]


def test_a_wait_shows_what_ends_it_early() -> None:
    fatal = Gone(Path("/r/it's"))
    step = Wait("it", Condition(1), 0.5, fatal=fatal)
    loop = shlex.split(step.shell())[-1]
    assert loop == f"until [ 1 ]; do {fatal.shell()} && exit 1; sleep 0.1; done"


def test_conditions_show_shell_tests_with_their_words_quoted() -> None:
    assert Contains(Path("/a b"), "x y").shell() == "head -c 65536 -- '/a b' 2>/dev/null | grep -qxF 'x y'"
    assert Gone(Path("/a b")).shell() == "flock --shared --nonblock '/a b' true"
    request = Qmp(Path("/s"), "query-status")
    assert Replies(request, '"status"').shell() == f"{request.shell()} 2>/dev/null | grep -qF '\"status\"'"


def test_making_a_plan_touches_nothing(tmp_path: Path) -> None:
    plan = Plan("x", [Write("w", tmp_path / "f", "t\n"), run("r", "rm", tmp_path)], tmp_path / "journal")
    assert [step.shell().split()[0] for step in plan.steps] == ["install", "rm"]
    assert [path.name for path in tmp_path.iterdir() if path.name in ("f", "journal", "f.new")] == []


def test_a_wait_of_no_time_is_no_endless_one_in_a_shell() -> None:
    assert shlex.split(Wait("it", Condition(1), 0).shell())[:2] != ["timeout", "0"]
