from __future__ import annotations

import os
from pathlib import Path

import pytest

from virshle.errors import ConflictError, HostError, NotFoundError, UsageError, VirshleError
from virshle.plan import Run
from virshle.service.carry import Carried, fetch_steps, fetched, look_through, place_steps, send_step, sent

SSH = ("ssh", "-p", "1", "web")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a folder `src`, and files `a:b` and `notes`."""
    folder = tmp_path / "here"
    (folder / "src").mkdir(parents=True)
    for name in ("a:b", "notes"):
        (folder / name).write_text("x")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    ("word", "source", "target"),
    [
        ("src", "src", "src"),
        ("src/", "src", "src"),
        (".", "", "here"),
        ("src:/srv/src", "src", "/srv/src"),
        ("notes:dir/", "notes", "dir/"),
        ("a:b", "a:b", "a:b"),
        ("notes:x:y", "notes", "x:y"),
    ],
)
def test_what_is_sent(word: str, source: str, target: str, here: Path) -> None:
    assert sent(word) == Carried(here / source, target)


@pytest.mark.parametrize("name", ["notes", "src"])
def test_what_a_link_leads_to_is_sent_under_the_links_name(name: str, here: Path) -> None:
    (here / "sub").mkdir()
    (here / "sub" / "current").symlink_to(f"../{name}")
    assert sent("sub/current") == Carried(here / name, "current")
    assert sent("sub/current:/srv/x") == Carried(here / name, "/srv/x")


@pytest.mark.parametrize(("word", "name"), [("..", "here"), ("../src", "src"), ("./..", "here")])
def test_a_folder_above_has_its_own_name(word: str, name: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "in").mkdir()
    monkeypatch.chdir(here / "in")
    assert sent(word) == Carried(here if name == "here" else here / name, name)


def test_what_has_no_name_needs_one() -> None:
    with pytest.raises(UsageError, match="has no name of its own"):
        sent("/")


@pytest.mark.parametrize("word", ["x" * 5000, "loop"])
def test_a_path_that_is_none_is_told(word: str, here: Path) -> None:
    (here / "loop").symlink_to("loop")
    with pytest.raises(VirshleError):
        sent(word)


def test_a_link_that_leads_nowhere_is_replaced(here: Path) -> None:
    (here / "loop").symlink_to("loop")
    assert fetched("result:loop") == Carried(here / "loop", "result")
    (here / "device").symlink_to("/dev/null")
    with pytest.raises(ConflictError, match="is not a plain file"):
        fetched("result:device")


@pytest.mark.parametrize("word", ["nowhere", "nowhere:x", "a:c"])
def test_what_is_not_there_is_not_sent(word: str) -> None:
    with pytest.raises(NotFoundError, match="no file or folder"):
        sent(word)


def test_a_fifo_is_not_sent(here: Path) -> None:
    os.mkfifo(here / "fifo")
    with pytest.raises(NotFoundError):
        sent("fifo")


@pytest.mark.parametrize("word", ["", ":x"])
def test_nothing_is_no_source(word: str) -> None:
    for parse in (sent, fetched):
        with pytest.raises(UsageError):
            parse(word)


@pytest.mark.parametrize(
    ("word", "source", "target"),
    [
        ("result", "result", "result"),
        ("/var/log/x.log", "/var/log/x.log", "x.log"),
        ("a/../b:c", "b", "c"),
        ("result:src", "result", "src/result"),
        ("result:new/", "result", "new/result"),
        ("result:notes", "result", "notes"),
    ],
)
def test_what_is_fetched(word: str, source: str, target: str, here: Path) -> None:
    assert fetched(word) == Carried(here / target, source)


@pytest.mark.parametrize("word", [".", "/", "..", "a/.."])
def test_a_name_is_needed_of_what_is_fetched(word: str) -> None:
    with pytest.raises(UsageError, match="names nothing to fetch"):
        fetched(word)


@pytest.mark.parametrize("word", ["src", "x/src", "src:."])
def test_no_folder_is_replaced(word: str) -> None:
    with pytest.raises(ConflictError, match="there is a folder"):
        fetched(word)


def test_names_are_nobodys_commands(here: Path) -> None:
    (here / "$(x) y").write_text("")
    step = send_step(SSH, sent("$(x) y:a b/;c"))
    assert isinstance(step, Run)
    assert step.command.argv[:2] == ("bash", "-c")
    assert step.command.argv[4:6] == (str(here), "./$(x) y")
    assert "'./a b/;c'" in step.command.argv[-1]
    _, (_, fetch) = fetch_steps(SSH, fetched("a b/$(y):out"))
    assert isinstance(fetch, Run)
    assert "if [ -e './a b/$(y)' ]" in fetch.command.argv[-1]
    assert "tar -cf - -C 'a b' ./'$(y)' ||" in fetch.command.argv[-1]


def test_no_path_is_an_option(here: Path) -> None:
    (here / "-x").write_text("")
    step = send_step(SSH, sent("-x"))
    assert isinstance(step, Run)
    assert "./-x" in step.command.argv
    assert " -x " not in step.command.argv[-1].replace("tar -x -o", "")


def test_what_comes_is_staged_beside_its_place(here: Path) -> None:
    what = fetched("result:src")
    came, (make, _) = fetch_steps(SSH, what)
    assert (came.name, came.parent.parent) == ("result", here / "src")
    assert make.undo
    assert [step.shell() for step in place_steps(came, what)] == [
        f"mv -T -- {came} {here}/src/result",
        f"rm -rf -- {came.parent}",
    ]


@pytest.fixture
def came(tmp_path: Path) -> Path:
    path = tmp_path / "staged" / "result"
    (path / "sub").mkdir(parents=True)
    (path / "sub/file").write_text("x")
    (path / "link").symlink_to("sub/file")
    return path


def test_files_folders_and_links_among_them_are_taken(came: Path) -> None:
    look_through(came)
    look_through(came / "sub/file")


def test_what_did_not_come_is_told(came: Path) -> None:
    with pytest.raises(HostError, match="does not exist in the guest"):
        look_through(came.parent / "other")


def test_no_link_is_taken_as_the_whole(came: Path) -> None:
    (came.parent / "top").symlink_to("result")
    with pytest.raises(HostError, match=r"top is a link to"):
        look_through(came.parent / "top")


def test_a_link_to_itself_is_told(came: Path) -> None:
    (came / "loop").symlink_to("loop")
    with pytest.raises(HostError, match="link"):
        look_through(came)


def test_what_cannot_be_looked_into_is_refused(came: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def closed(path: str) -> object:
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(HostError, match="cannot check what was copied out"):
        look_through(came)


# Of the last two, staging them beside its place is what makes them seem to lead nowhere but there.
@pytest.mark.parametrize("target", ["/etc/shadow", "../../../x", "/", "../..", "../../secret"])
def test_a_link_to_elsewhere_is_refused(target: str, came: Path) -> None:
    (came / "sub/bad").symlink_to(target)
    with pytest.raises(HostError, match=r"result/sub/bad is a link to"):
        look_through(came)


def test_what_is_no_file_or_has_rights_of_its_own_is_refused(came: Path) -> None:
    (came / "sub/file").chmod(0o4755)
    with pytest.raises(HostError, match="is not a plain file"):
        look_through(came)
    (came / "sub/file").chmod(0o755)
    os.mkfifo(came / "fifo")
    with pytest.raises(HostError, match="is not a plain file"):
        look_through(came)
