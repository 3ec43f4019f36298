"""What is listed, and how it is printed."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import pytest

from tests.unit.cli.conftest import V
from tests.unit.support import make_vm, put_broken, put_vm, uuid_of
from virshle.store import Layout

_HEAD = ["id", "name", "state", "vcpu", "memory", "template", "image", "ssh"]


@pytest.fixture
def two(layout: Layout) -> None:
    put_vm(layout, make_vm("web", 2))
    put_vm(layout, make_vm("db", 1, origin={"source": "/img.raw"}))


def test_a_table_has_a_row_for_each_vm_and_sizes_for_people(two: None, v: V) -> None:
    ran = v("ls")
    assert [line.split() for line in ran.out.splitlines()] == [
        [word.upper() for word in _HEAD],
        ["1", "db", "stopped", "2", "512MiB", "tiny", "/img.raw", "-"],
        ["2", "web", "stopped", "2", "512MiB", "tiny", "tiny", "-"],
    ]
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.parametrize("words", [["ls"], ["ls", "web"], ["ls", "-q"], ["info", "web"], ["ls", "--format", "csv"]])
def test_every_verb_is_the_same_behind_vm(words: list[str], two: None, v: V) -> None:
    assert v("vm", *words) == v(*words)


def test_json_is_data_with_every_column(two: None, v: V) -> None:
    ran = v("ls", "--format", "json")
    rows = json.loads(ran.out)
    assert [(row["name"], row["memory"], row["uuid"], row["ssh"]) for row in rows] == [
        ("db", 2**29, str(uuid_of("db")), None),
        ("web", 2**29, str(uuid_of("web")), None),
    ]


def test_csv_is_data_with_every_column(two: None, v: V) -> None:
    rows = list(csv.DictReader(io.StringIO(v("ls", "--format", "csv").out)))
    assert [(row["name"], row["memory"], row["ssh"]) for row in rows] == [
        ("db", str(2**29), ""),
        ("web", str(2**29), ""),
    ]


def test_yaml_has_a_list_item_for_each_and_json_scalars(two: None, v: V) -> None:
    text = v("ls", "--format", "yaml", "-c", "name,memory,ssh").out
    assert text == f'- name: "db"\n  memory: {2**29}\n  ssh: null\n- name: "web"\n  memory: {2**29}\n  ssh: null\n'


@pytest.mark.parametrize("form", ["table", "json", "yaml", "csv"])
def test_columns_are_chosen_in_their_order(form: str, two: None, v: V) -> None:
    out = v("ls", "web", "-c", "state, name", "--format", form).out.lower()
    assert out.index("state") < out.index("name")
    assert "memory" not in out


def test_a_vm_that_is_outdated_adds_that_column(two: None, layout: Layout, v: V) -> None:
    put_vm(layout, make_vm("old", 3, origin={"image": "own", "source": "x", "store_path": "/nix/store/1-own"}))
    assert "OUTDATED" not in v("ls").out
    layout.image("own").mkdir()
    (layout.image("own") / "result").symlink_to("/nix/store/2-own")
    assert [line.split()[-1] for line in v("ls").out.splitlines()] == ["OUTDATED", "no", "no", "yes"]


def test_all_columns_are_all(two: None, v: V) -> None:
    assert {"UUID", "CREATED", "ACCOUNT"} <= set(v("ls", "-c", "all").out.splitlines()[0].split())


def test_an_unknown_column_is_a_usage_error_with_the_near_match(two: None, v: V) -> None:
    ran = v("ls", "-c", "nmae")
    assert (ran.code, ran.out) == (2, "")
    assert "no column 'nmae'" in ran.err
    assert "did you mean name" in ran.err


def test_quiet_is_names_only(two: None, v: V) -> None:
    assert v("ls", "-q") == (0, "db\nweb\n", "")
    assert v("ls", "-q", "--state", "running") == (0, "", "")


def test_no_vms_are_told_on_stderr_and_are_empty_data(v: V) -> None:
    ran = v("ls")
    assert (ran.code, ran.out) == (0, "")
    assert "v create -t tiny" in ran.err
    assert v("ls", "--format", "json") == (0, "[]\n", "")
    assert v("ls", "--format", "yaml") == (0, "[]\n", "")
    assert v("ls", "-q") == (0, "", "")


def test_a_broken_vm_adds_its_problem(two: None, layout: Layout, v: V) -> None:
    put_broken(layout, uuid_of("bad"), name="bad")
    out = v("ls").out.splitlines()
    assert out[0].split()[-1] == "PROBLEM"
    assert "it is not JSON" in out[-1]
    assert v("ls").code == 0


def test_a_table_makes_control_characters_visible(layout: Layout, v: V, monkeypatch: pytest.MonkeyPatch) -> None:
    put_broken(layout, uuid_of("bad"), '{"\\u001b]0;x\\u0007": 1}')
    put_vm(layout, make_vm(template="a\x1b]0;y\x07b\n2  c"))
    out = v("ls").out
    assert "\x07" not in out
    assert "a\\x1b]0;y\\x07b\\n2  c" in out
    assert len(out.splitlines()) == 3


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--id", "9"], "number 9"),
        (["9"], "number 9"),
        (["--uuid", "1234"], "uuid 1234"),
        (["--id", "wbe"], "number wbe"),
    ],
)
def test_a_number_or_a_uuid_of_no_vm_is_told_as_such(words: list[str], what: str, two: None, v: V) -> None:
    ran = v("info", *words)
    assert (ran.code, ran.err) == (4, f"error: no VM with the {what}\nhint: `v ls` lists them\n")


def test_a_state_that_no_vm_is_in_is_told_as_such(two: None, v: V) -> None:
    assert v("ls", "--state", "paused") == (0, "", "no VM matches\n")
    assert v("ls", "--state", "paused", "--format", "json") == (0, "[]\n", "")
    assert v("ls", "--account", str(uuid_of("x"))) == (0, "", "no VM matches\n")


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_details_are_a_list_of_one_as_of_many(form: str, two: None, v: V) -> None:
    one, other = (v("info", name, "--format", form).out for name in ("web", "db"))
    both = v("info", "web", "db", "--format", form).out
    if form == "json":
        assert json.loads(both) == json.loads(one) + json.loads(other)
    else:
        assert both == one + other
        assert one.startswith("- ")


def test_truth_is_the_same_word_in_all_data(two: None, v: V) -> None:
    assert "outdated: false" in v("ls", "web", "-c", "outdated", "--format", "yaml").out
    assert '"outdated": false' in v("ls", "web", "-c", "outdated", "--format", "json").out
    assert v("ls", "web", "-c", "outdated", "--format", "csv").out == "outdated\nfalse\n"


def test_an_unknown_vm_is_not_found_with_the_near_match(two: None, v: V) -> None:
    ran = v("info", "wbe")
    assert (ran.code, ran.out) == (4, "")
    assert ran.err == "error: no VM named 'wbe'\nhint: did you mean web?\n"


def test_info_tells_all_in_each_format(two: None, v: V) -> None:
    (found,) = json.loads(v("info", "web", "--format", "json").out)
    assert found["name"] == "web"
    assert found["disks"][0]["size"] == 2**20
    assert "1MiB" in v("info", "web").out
    assert 'name: "web"\n' in v("info", "web", "--format", "yaml").out


def test_logs_are_given_as_they_are(two: None, layout: Layout, v: V) -> None:
    folder = layout.vm(uuid_of("web"))
    (folder / "log/console.log").write_text("login:\n")
    (folder / "commands.log").write_text("# t\ncp a b\n")
    assert v("logs", "web") == (0, "login:\n", "")
    assert v("logs", "web", "--commands").out == "# t\ncp a b\n"
    ran = v("logs", "web", "--vmm")
    assert ran.code == 4
    assert "web has no vmm log yet" in ran.err


def test_who_follows_a_log_goes_on_where_it_was_cut(
    two: None, layout: Layout, v: V, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = layout.vm(uuid_of("web")) / "log/console.log"
    log.write_text("a long first part\n")
    then = iter([lambda: log.write_text("more\n")])
    monkeypatch.setattr("time.sleep", lambda _: next(then, lambda: os.kill(os.getpid(), signal.SIGINT))())
    assert v("logs", "web", "-f").out == "a long first part\nmore\n"


@pytest.mark.parametrize("said", ["login:\n", None])
def test_who_follows_a_log_is_told_that_its_vm_was_deleted(
    said: str | None, two: None, layout: Layout, v: V, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = layout.vm(uuid_of("web"))
    if said:
        (folder / "log/console.log").write_text(said)
    aside = folder.with_name("elsewhere")
    moved, back, gone = partial(folder.rename, aside), partial(aside.rename, folder), partial(shutil.rmtree, folder)
    then: Iterator[Callable[[], object]] = iter([moved, back, gone])
    monkeypatch.setattr("time.sleep", lambda _: next(then, lambda: os.kill(os.getpid(), signal.SIGINT))())
    assert v("logs", "web", "-f") == (0, said or "", "web has been deleted\n")


def test_nothing_is_evaluated_unless_asked_for(v: V, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("virshle.service.image_list.nix_of", refuse)
    for noun in ("template", "image"):
        assert "CURRENT" not in v(noun, "ls").out.splitlines()[0]
        assert v(noun, "ls", "--check").out.splitlines()[0].split()[-1] in ("CURRENT", "PROBLEM")


def test_updates_are_of_what_is_built(v: V) -> None:
    assert v("image", "update") == (0, "", "no image is built: nothing to update\n")
    ran = v("image", "update", "tiyn")
    assert ran.code == 4
    assert "did you mean tiny?" in ran.err


def test_templates_and_images_are_listed(v: V) -> None:
    assert v("template", "ls", "-q").out == "tiny\nnixos\n"
    rows = json.loads(v("image", "ls", "--format", "json").out)
    assert [(row["name"], row["built"]) for row in rows] == [("tiny", False), ("nixos", False)]


def test_the_configuration_is_checked_and_shown(layout: Layout, v: V) -> None:
    layout.paths.config.write_text("[node]\nalias = 'x'\n")
    ran = v("config", "check")
    assert ran.code == 0
    assert "no problem; 2 templates and 2 images" in ran.out
    assert "node.alias has no effect" in ran.err
    shown = {row["name"]: row for row in json.loads(v("config", "show", "--format", "json").out)}
    assert shown["template.vm.tiny.vcpu"] == {"name": "template.vm.tiny.vcpu", "value": 1, "from": "built in"}
    assert shown["paths.state"]["from"] == "VIRSHLE_STATE_DIR"


def test_a_layout_elsewhere_is_not_looked_at(layout: Layout, v: V) -> None:
    other = Layout(replace(layout.paths, state=layout.paths.state.with_name("other")))
    for folder in other.folders():
        folder.mkdir(parents=True)
    put_vm(other, make_vm("elsewhere"))
    assert v("ls", "-q").out == ""


def test_a_value_of_the_configuration_is_shown_as_the_file_has_it(layout: Layout, v: V) -> None:
    disk = '[[template.vm.disk]]\nname = "os"\npath = "/x"\nreadonly = true\n'
    layout.paths.config.write_text(f'[[template.vm]]\nname = "x"\n{disk}')
    for form, shown in (("table", "  true  "), ("csv", ",true,"), ("json", '"value": true')):
        assert shown in v("config", "show", "--format", form).out
