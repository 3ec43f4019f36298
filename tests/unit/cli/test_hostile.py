"""What `v` says to hostile words, definitions and files: an error of its own, with a documented code."""

from __future__ import annotations

import json
import os
import pwd
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import Ran, V
from tests.unit.fakehost import FakeHost
from tests.unit.hostile import FILES, WORDS, toml
from tests.unit.support import make_vm, put_broken, put_vm, uuid_of
from virshle.store import Layout
from virshle.store.layout import command_log

DATA: dict[str, Any] = json.loads(make_vm("bad", 9).model_dump_json())
ODD = {
    "a size of many digits": {"memory": 10**400 + 1},
    "a number of many digits": {"id": 10**300},
    "half a character": {"template": "\ud800"},
    "a byte of no character": {"origin": {"source": "\udcff", "image": None}},
    "lines": {"template": "x\n2  fake  running", "origin": {"source": "\x1b[2J\n"}},
}
SAID = ("error: ", "warning: ")


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_the_list_shows_every_vm_in_every_format(odd: dict[str, Any], layout: Layout, v: V) -> None:
    put_vm(layout, make_vm("web", 1))
    put_broken(layout, uuid_of("bad"), json.dumps(DATA | odd), name="bad")
    for form in ("table", "json", "yaml", "csv"):
        ran = v("ls", "--format", form)
        assert (ran.code, "web" in ran.out) == (0, True), ran.err
    assert len(v("ls").out.splitlines()) == 3
    assert "\x1b[2J" not in v("ls").out
    assert v("ls", "-q").out.splitlines() == ["web", "bad"]


def _refused(ran: Ran, *codes: int) -> None:
    assert ran.code in codes, ran
    assert ran.err.startswith(SAID), ran.err
    assert "unexpected" not in ran.err
    assert "\x1b" not in ran.err


VERBS = [
    ("start", 2, 4),
    ("stop", 2, 4),
    ("pause", 2, 4),
    ("resume", 2, 4),
    ("delete", 2, 4),
    ("info", 2, 4),
    ("logs", 2, 4),
    ("script", 2, 4),
    ("ssh", 2, 4),
    ("image build", 2, 4),
    ("create -t", 2, 4),
    ("create -t tiny", 2),
    ("ls -c", 2),
    ("ls --state", 2),
]


@pytest.mark.parametrize(("verb", "codes"), [(verb, codes) for verb, *codes in VERBS])
def test_no_word_is_more_than_unknown(verb: str, codes: list[int], layout: Layout, v: V, host: FakeHost) -> None:
    put_vm(layout, make_vm())
    for word in (*WORDS, "\udcff", "-", "--", "--nonsense", "-x"):
        # Those are words that say something else.
        if word == "--all" or (verb == "create -t tiny" and word == "--"):
            continue
        _refused(v(*verb.split(), word), *codes)
    assert [path.name for path in layout.vms.iterdir()] == [str(uuid_of("web"))]


CONFIGS = {
    "a number of many digits": b"[[template.vm]]\nvcpu = " + b"9" * 5000,
    "a hexadecimal number of many digits": b"[[template.vm]]\nname = 0x" + b"f" * 20000,
    "and as a size": b'[[template.vm]]\nname = "x"\nvram = 0x' + b"f" * 20000,
    "keys of many parts": b".".join([b"a"] * 2000) + b" = 1",
    "a value of many parts": b"[extra]\nx." + b".".join([b"a"] * 2000) + b" = 1",
    "many problems": b"[[image]]\n" * 20000,
    "no UTF-8": b"\xff\xfe",
    "NUL": b"\0",
    "a terminal's": b"[[image]]\nname = '\xc2\x9b2J'",
    "too much": b"#" * (2**20 + 1),
}


@pytest.mark.parametrize("text", CONFIGS.values(), ids=CONFIGS.keys())
def test_a_configuration_is_right_or_refused(text: bytes, layout: Layout, v: V) -> None:
    layout.paths.config.write_bytes(text)
    _refused(v("config", "check"), 3)
    put_vm(layout, make_vm())
    assert v("ls", "-q").out == "web\n"


@pytest.mark.parametrize("make", [make for kind, make in FILES.items() if kind != "empty"])
@pytest.mark.parametrize("words", ["config check", "create -t tiny -u"])
def test_a_file_that_was_named_is_not_waited_for(
    words: str, make: Any, layout: Layout, v: V, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virshle.fs.read_given.__kwdefaults__", {"most": 2**16, "patience": 0.1})
    file = layout.paths.config if words == "config check" else layout.paths.config.with_name("user-data.toml")
    file.unlink(missing_ok=True)
    make(file)
    ran = v(*words.split(), *([str(file)] if file != layout.paths.config else []))
    _refused(ran, 2, 3, 4)


def test_what_comes_by_a_pipe_is_read(layout: Layout, v: V, monkeypatch: pytest.MonkeyPatch) -> None:
    """`VIRSHLE_CONFIG=<(...)`"""
    readable, writable = os.pipe()
    try:
        os.write(writable, b'[[image]]\nname = "piped"\npath = "/x"\n')
        os.close(writable)
        monkeypatch.setenv("VIRSHLE_CONFIG", f"/dev/fd/{readable}")
        assert "image.piped.path" in v("config", "show").out
    finally:
        os.close(readable)


@pytest.mark.parametrize("variable", ["VIRSHLE_STATE_DIR", "VIRSHLE_RUN_DIR", "VIRSHLE_CONFIG"])
@pytest.mark.parametrize("value", ["/a/\udcff", "~nobody-of-that-name/x", "x\udc80"])
def test_folders_that_cannot_be_written_down_are_refused(
    value: str, variable: str, v: V, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    _refused(v("ls"), 3)


def test_who_has_no_home_is_told(v: V, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> object:
        raise KeyError

    monkeypatch.delenv("VIRSHLE_STATE_DIR")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    _refused(v("ls"), 3)


@pytest.mark.parametrize("kind", [key for key in FILES if key not in ("empty", "no UTF-8", "deep", "huge")])
@pytest.mark.parametrize("log", ["log/console.log", "log/vmm.log", "commands.log"])
def test_a_log_that_is_none_is_not_read(log: str, kind: str, layout: Layout, v: V) -> None:
    folder = put_vm(layout, make_vm())
    FILES[kind](folder / log)
    words = {"log/vmm.log": ["--vmm"], "commands.log": ["--commands"]}.get(log, [])
    ran = v("logs", "web", *words)
    assert ran.out == ""
    assert ran.code in (0, 4, 6)
    assert "unexpected" not in ran.err


def test_a_log_that_leads_elsewhere_is_not_shown(layout: Layout, v: V, tmp_path: Path) -> None:
    """Whoever runs as the VMM could make one, and root read it."""
    folder = put_vm(layout, make_vm())
    (tmp_path / "secret").write_text("secret\n")
    (folder / "log/console.log").symlink_to(tmp_path / "secret")
    ran = v("logs", "web")
    assert (ran.code, "secret\n" in ran.out) == (6, False)


SECRETS = {
    "a password": '[[user]]\nname = "ada"\npassword = "hunter2"',
    "a hash": '[[user]]\nname = "ada"\nssh.authorized_keys = ["$6$hunter2"]',
    "a private key": '[[user]]\nname = "ada"\nssh.authorized_keys = ["-----BEGIN EC PRIVATE KEY-----\\nhunter2"]',
    "in the place of a name": '[[user]]\nname = "hunter2 hunter2"',
    "in that of a table": 'user = "hunter2"',
    "and of a line": "[[user]]\nname = hunter2",
}


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS.keys())
def test_what_may_be_a_secret_is_not_said(text: str, layout: Layout, v: V, tmp_path: Path) -> None:
    file = tmp_path / "user-data.toml"
    file.write_text(text)
    ran = v("create", "-t", "tiny", "-u", str(file), "-vvvv")
    _refused(ran, 3)
    assert "hunter2" not in ran.out + ran.err


@pytest.mark.parametrize("word", WORDS, ids=range(len(WORDS)))
def test_a_template_has_plain_names_and_whole_paths(word: str, layout: Layout, v: V) -> None:
    text = f"[[template.vm]]\nname = {toml(word)}\n[[template.vm.disk]]\nname = {toml(word)}\npath = {toml(word)}\n"
    layout.paths.config.write_text(text)
    ran = v("config", "check")
    assert "unexpected" not in ran.err
    assert ran.code == 3, ran
    layout.paths.config.write_text(text.replace("name = " + toml(word), 'name = "x"'))
    ran = v("template", "ls")
    assert ran.code == (3 if word == "" else 0), ran
    assert "\x1b" not in ran.out


def test_a_command_log_that_nobody_reads_is_not_waited_for(
    layout: Layout, v: V, host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put_vm(layout, make_vm())
    os.mkfifo(command_log(folder))
    ran = v("delete", "web")
    assert (ran.code, folder.exists()) == (0, False)
    assert "cannot be written" in ran.err
    shutil.rmtree(layout.vms)
