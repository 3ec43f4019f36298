"""Whatever is in a configuration, in user data or in an image's files: right, or an error of ours."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.hostile import FILES, VALUES, WORDS, json_values, toml
from tests.unit.support import FOREIGN, KEY, make_vm, uuid_of
from virshle.config.load import load
from virshle.config.paths import Paths
from virshle.config.schema import ConfigFile, ImageConfig, VmTemplate
from virshle.disk import check_image
from virshle.errors import ConfigError, NotFoundError, VirshleError
from virshle.image import Record, built, read_record
from virshle.model.names import check_file_name, check_name
from virshle.model.units import LARGEST, format_size, parse_size
from virshle.store.layout import image_link
from virshle.template import Identity, Source, define
from virshle.userdata import personal_keys, read_key, read_user_data

KEYS = [
    *(f"template.vm.{name}" for name in VmTemplate.model_fields),
    *("template.vm.disk.name template.vm.disk.path template.vm.disk.size template.vm.disk.image".split()),
    *("template.vm.net.name template.vm.net.type template.vm.net.type.user.mac".split()),
    *(f"image.{name}" for name in ImageConfig.model_fields),
    *ConfigFile.model_fields,
    *("node.alias peer.weight dhcp.fake.pool dhcp.kea.url x x.y".split()),
]
LISTS = ("template.vm.disk", "template.vm.net", "template.vm", "image", "peer")


def _text(key: str, value: object) -> str:
    """A configuration in which only that is wrong, if it is."""
    section, _, name = key.rpartition(".")
    header = next((f"[[{table}]]\n" for table in LISTS if section == table), f"[{section}]\n" if section else "")
    parent = "[[template.vm]]\nname = 'x'\n" if section.startswith("template.vm.") else ""
    return f"{parent}{header}{name} = {toml(value)}\n"


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    folder = tmp_path_factory.mktemp("c")
    return Paths(folder, folder, folder / "config.toml", {"state": "", "run": "", "config": ""})


def _load(paths: Paths, text: str) -> None:
    paths.config.write_bytes(text.encode(errors="replace"))
    try:
        load(paths)
    except ConfigError as error:
        assert error.hint
        assert "Traceback" not in "\n".join(error.details)
        for line in error.details:
            # Without the value, which may say anything.
            assert not FOREIGN.search(line.partition(" (it is ")[0]), line


@pytest.mark.parametrize("key", KEYS)
def test_no_value_is_more_than_wrong(key: str, paths: Paths) -> None:
    for value in VALUES:
        if value != 10**400:  # more digits than TOML's reader takes is a test of its own
            _load(paths, _text(key, value))


@given(key=st.sampled_from(KEYS), value=json_values)
def test_nor_is_any_other(key: str, value: Any, paths: Paths) -> None:
    _load(paths, _text(key, value))


@given(text=st.text())
def test_nor_what_is_no_toml(text: str, paths: Paths) -> None:
    _load(paths, text)


_USER = {"user": [{"name": "ada", "ssh": {"authorized_keys": [KEY]}}], "account": {"uuid": str(uuid_of("a"))}}


@given(
    where=st.sampled_from(
        [("user",), ("user", 0), ("user", 0, "name"), ("user", 0, "ssh"), ("account",), ("account", "uuid"), ("x",)]
    ),
    value=json_values | st.sampled_from(VALUES),
)
def test_no_user_data_is_more_than_wrong(where: tuple[Any, ...], value: Any, paths: Paths) -> None:
    data = json.loads(json.dumps(_USER))
    place = data
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    file = paths.config.with_name("user-data.toml")
    file.write_bytes("".join(f"{key} = {toml(item)}\n" for key, item in data.items()).encode(errors="replace"))
    try:
        read, _ = read_user_data([file])
    except ConfigError as error:
        assert not FOREIGN.search("\n".join(error.details)), error.details
        return
    for user in read.users:
        assert user.name.isascii()
        assert all(key.splitlines() == [key] or "\u2028" in key or "\x85" in key for key in user.authorized_keys)


@given(word=st.text() | st.sampled_from(WORDS))
def test_a_name_is_one_plain_word_and_no_option(word: str) -> None:
    for check, allowed in ((check_name, "-"), (check_file_name, "-._")):
        try:
            name = check(word)
        except ValueError:
            continue
        assert name == word
        assert name.isascii()
        assert name[0].isalnum()
        assert all(letter.isalnum() or letter in allowed for letter in name)


@given(size=st.text() | st.integers().map(lambda number: f"{number}GiB") | st.sampled_from(VALUES))
def test_a_size_is_in_its_bounds(size: Any) -> None:
    try:
        found = parse_size(size)
    except ValueError:
        return
    assert 0 < found <= LARGEST
    assert format_size(found)


RECORD = {"name": "x", "source": "s", "store_path": "/nix/store/x", "nix": "2.8", "built": "2024-05-06T07:08:09Z"}


@given(key=st.sampled_from([*Record.model_fields, "x"]), value=json_values)
def test_no_record_of_an_image_is_more_than_none(key: str, value: Any, paths: Paths) -> None:
    (paths.state / "image.json").write_text(json.dumps(RECORD | {key: value}))
    record = read_record(paths.state)
    if record is not None:
        assert record.built.strftime("%Y-%m-%d %H:%M")
        record.source.encode()


@pytest.mark.parametrize("make", FILES.values(), ids=FILES.keys())
def test_whatever_is_in_its_place_it_is_none(make: Any, tmp_path: Path) -> None:
    make(tmp_path / "image.json")
    assert read_record(tmp_path) is None


@pytest.mark.parametrize("kind", [kind for kind in FILES if kind != "huge"])
def test_no_odd_file_is_an_image(kind: str, tmp_path: Path) -> None:
    FILES[kind](tmp_path / "disk.raw")
    if kind == "deep":
        os.truncate(tmp_path / "disk.raw", 511)
    with pytest.raises((ConfigError, NotFoundError)):
        check_image(tmp_path / "disk.raw")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The folder of an image that was built."""
    (tmp_path / "store").mkdir()
    for name in ("disk.raw", "kernel", "initrd"):
        (tmp_path / "store" / name).write_bytes(bytes(512))
    (tmp_path / "store/cmdline").write_text("console=ttyS0\n")
    folder = tmp_path / "image"
    folder.mkdir()
    image_link(folder).symlink_to(tmp_path / "store")
    return folder


@pytest.mark.parametrize("make", [make for kind, make in FILES.items() if kind not in ("deep", "empty")])
@pytest.mark.parametrize("name", ["kernel", "initrd", "cmdline"])
def test_no_odd_file_is_a_part_of_an_image(name: str, make: Any, image: Path) -> None:
    path = image.parent / "store" / name
    path.unlink()
    make(path)
    if name != "cmdline" and path.is_file() and not path.is_symlink():
        return  # whatever is in a file, it may be a kernel
    with pytest.raises(ConfigError, match=r"is no image|half of one"):
        built("odd", image)


def test_a_built_image_is_where_its_link_says_from_wherever_one_looks(
    image: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    image_link(image).unlink()
    image_link(image).symlink_to("../store")
    monkeypatch.chdir("/")
    found = built("x", image)
    assert found is not None
    assert found.disk.exists()


@pytest.mark.parametrize(
    "odd",
    [{"cmdline": "two\nlines"}, {"cmdline": "\0"}, {"described": "a\0b"}, {"path": Path("/\udcff")}, {"size": 2**63}],
)
def test_what_cannot_be_written_down_is_no_vm(odd: dict[str, Any]) -> None:
    template = VmTemplate.model_validate({"name": "t", "disk": [{"name": "os", "path": "/x"}]})
    source = replace(Source(Path("/x"), 512, "it", kernel=Path("/k"), initrd=Path("/i")), **odd)
    vm = make_vm()
    with pytest.raises(ConfigError, match="cannot become a VM") as caught:
        define(template, Identity(vm.uuid, 1, "web"), [source])
    assert caught.value.details


@pytest.mark.parametrize("text", ['args.x = "\\u0000"', 'args.x = "a\\u0000b"', 'args."-x" = "1"'])
def test_what_no_command_can_be_given_is_refused(text: str, paths: Paths) -> None:
    paths.config.write_text(f'[[image]]\nname = "x"\nfile = "x.nix"\n{text}\n')
    with pytest.raises(ConfigError, match="1 problem"):
        load(paths)
    paths.config.write_text('[[image]]\nname = "x"\nnix = "a\\u0000#b"\n')
    with pytest.raises(ConfigError, match="1 problem"):
        load(paths)


@pytest.mark.parametrize("make", FILES.values(), ids=FILES.keys())
def test_odd_keys_are_none(make: Any, tmp_path: Path) -> None:
    (Path.home() / ".ssh").mkdir()
    make(Path.home() / ".ssh/id.pub")
    assert personal_keys() == []
    make(tmp_path / "id_ed25519.pub")
    with pytest.raises(VirshleError):
        read_key(tmp_path)
