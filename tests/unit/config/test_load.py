from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.support import FOREIGN, told
from virshle.config.load import BUILT_IN, Config, load, provenance
from virshle.config.paths import Paths
from virshle.errors import ConfigError, NotFoundError

OWN = """
[[image]]
name = "debian"
path = "/img/debian.raw"

[[template.vm]]
name = "small"
vcpu = 3
vram = "1GiB"
[[template.vm.disk]]
name = "os"
image = "debian"
size = "4GiB"
[[template.vm.disk]]
name = "data"
size = "1GiB"
[[template.vm.net]]
name = "main"
type = "user"
"""


def _load(paths: Paths, text: str) -> Config:
    paths.config.write_text(text)
    return load(paths)


DOCS = Path(__file__).parents[3] / "docs"
_TOML = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_what_the_pages_show_of_a_configuration_is_one(paths: Paths) -> None:
    blocks = [block for page in sorted(DOCS.glob("*.md")) for block in _TOML.findall(page.read_text())]
    shown = [block for block in blocks if "[[user]]" not in block]
    assert len(shown) >= 3
    for block in shown:
        assert _load(paths, block).warnings == []


def test_without_a_file_there_is_what_is_built_in(paths: Paths) -> None:
    paths.config.unlink(missing_ok=True)
    config = load(paths)
    assert set(config.templates) == {"tiny", "nixos"}
    assert set(config.images) == {"tiny", "nixos"}
    assert set(config.origins.values()) == {BUILT_IN}
    assert config.warnings == []


def test_an_own_file_adds_to_it(paths: Paths) -> None:
    config = _load(paths, OWN)
    small = config.template("small")
    assert (small.vcpu, small.vram, [disk.size for disk in small.disk]) == (3, 2**30, [2**32, 2**30])
    assert small.net[0].type.kind == "user"
    assert config.image("debian").source == "/img/debian.raw"
    assert "tiny" in config.templates
    assert config.origins["template", "small"] == str(paths.config)


def test_a_built_in_one_is_overridden_by_its_name(paths: Paths) -> None:
    own = '[[image]]\nname = "tiny"\npath = "/mine.raw"\n[[template.vm]]\nname = "tiny"\nvcpu = 9\n'
    config = _load(paths, own + '[[template.vm.disk]]\nname = "os"\nimage = "tiny"\n')
    assert config.image("tiny").path == "/mine.raw"
    assert config.template("tiny").vcpu == 9
    assert config.origins["image", "tiny"] == config.origins["template", "tiny"] == str(paths.config)
    assert config.origins["image", "nixos"] == BUILT_IN


def test_an_own_template_may_use_a_built_in_image(paths: Paths) -> None:
    own = '[[template.vm]]\nname = "mine"\n[[template.vm.disk]]\nname = "os"\nimage = "tiny"\n'
    template = _load(paths, own).template("mine")
    assert (template.vcpu, template.vram, template.hypervisor, template.user) == (1, 2**29, "auto", "root")


def test_one_that_is_not_there_is_not_found(paths: Paths) -> None:
    config = _load(paths, OWN)
    with pytest.raises(NotFoundError) as caught:
        config.template("smal")
    assert caught.value.hint == "did you mean small?"
    with pytest.raises(NotFoundError, match="no image named 'x'"):
        config.image("x")


def test_broken_toml_is_told_with_its_line(paths: Paths) -> None:
    with pytest.raises(ConfigError, match=r"config\.toml is not valid TOML: .*line 3"):
        _load(paths, "[[image]]\nname = 'a'\npath = \n")


def test_toml_that_is_nested_too_deeply_is_an_error_like_any_other(paths: Paths) -> None:
    with pytest.raises(ConfigError, match="nested too deeply"):
        _load(paths, "x = " + "[" * 5000 + "]" * 5000)


def test_a_file_that_is_not_utf_8_is_told(paths: Paths) -> None:
    paths.config.write_bytes(b'x = "\xff"')
    with pytest.raises(ConfigError, match="it is not UTF-8"):
        load(paths)


def test_a_folder_is_no_file(paths: Paths) -> None:
    paths.config.unlink(missing_ok=True)
    paths.config.mkdir()
    with pytest.raises(ConfigError, match="Is a directory"):
        load(paths)


def test_a_file_that_was_asked_for_must_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VIRSHLE_CONFIG", str(tmp_path / "missing.toml"))
    with pytest.raises(ConfigError, match=r"missing\.toml: No such file") as caught:
        load()
    assert "VIRSHLE_CONFIG" in caught.value.hint


def test_every_value_is_told_with_its_origin(paths: Paths) -> None:
    values = {key: (value, origin) for key, value, origin in provenance(_load(paths, OWN))}
    name = str(paths.config)
    assert values["paths.state"] == (str(paths.state), "test")
    assert values["template.vm.small.vcpu"] == (3, name)
    assert values["template.vm.small.disk.os.size"] == (2**32, name)
    assert values["template.vm.small.disk.os.readonly"] == (False, "default")
    assert values["template.vm.small.net.main.type"] == ("user", name)
    assert values["template.vm.small.hypervisor"] == ("auto", "default")
    assert values["template.vm.tiny.vcpu"] == (1, BUILT_IN)
    assert values["image.debian.path"] == ("/img/debian.raw", name)
    assert "template.vm.small.uuid" not in values


def test_problems_are_all_told_at_once_with_their_keys(paths: Paths) -> None:
    text = """
    tempalte = 1
    dhcp.keaa = 1
    [[template.vm]]
    name = "a"
    vcpus = 2
    vram = "2GB"
    [[template.vm.disk]]
    name = "os"
    image = "debain"
    [[template.vm.net]]
    name = "main"
    type = "tpa"
    [[image]]
    name = "debian"
    """
    with pytest.raises(ConfigError) as caught:
        _load(paths, text)
    lines = [line.removeprefix(f"{paths.config}: ") for line in caught.value.details]
    assert sorted(lines) == sorted(
        [
            "tempalte: unknown key; did you mean template?",
            "template.vm[0].vcpus: unknown key; did you mean vcpu?",
            "template.vm[0].vram: '2GB' is not a size: write a whole number and B, KiB, MiB, GiB or TiB,"
            ' as in "2GiB"',
            "dhcp.keaa: unknown key; did you mean kea?",
            "template.vm[0].disk[0].image: there is no image named 'debain'; did you mean debian?",
            "template.vm[0].net[0].type: there is no type 'tpa'; the types are user, tap, macvtap, vhost"
            "; did you mean tap?",
            "image[0]: choose exactly one of nix, file and path",
        ]
    )
    assert caught.value.message == f"{paths.config} has 7 problems"
    assert caught.value.hint == "fix the file, then: v config check"


_DISK = '[[template.vm.disk]]\nname = "os"\nimage = "tiny"\n'
_VM = '[[template.vm]]\nname = "a"\n'
_WRONG = {
    "too few vcpus": (_VM + "vcpu = 0\n" + _DISK, "template.vm[0].vcpu"),
    "text for a number": (_VM + 'vcpu = "2"\n' + _DISK, "template.vm[0].vcpu"),
    "truth for a number": (_VM + "vcpu = true\n" + _DISK, "template.vm[0].vcpu"),
    "a number for a size": (_VM + "vram = 512\n" + _DISK, "template.vm[0].vram"),
    "too little memory": (_VM + 'vram = "1MiB"\n' + _DISK, "template.vm[0].vram"),
    "no disk": (_VM, "template.vm[0].disk: missing"),
    "no name": ("[[template.vm]]\n" + _DISK, "template.vm[0].name: missing"),
    "a name that leaves": (_VM.replace('"a"', '"../a"') + _DISK, "template.vm[0].name: '../a' is not a plain name"),
    "a table for a list": ('[template.vm]\nname = "a"\n', "template.vm"),
    "text for a table": ("node = 'x'\n", "node"),
    "path and image": (_VM + _DISK + 'path = "/x"\n', "template.vm[0].disk[0]: choose path or image, not both"),
    "a disk from nowhere": (_VM + '[[template.vm.disk]]\nname = "os"\n', "disk[0]: the disk needs a source"),
    "an empty first disk": (_VM + '[[template.vm.disk]]\nname = "os"\nsize = "1GiB"\n', "so the VM cannot boot"),
    "two disks of one name": (_VM + _DISK + _DISK, "template.vm[0].disk: more than one is named 'os'"),
    "two nets of one name": (
        _VM + _DISK + '[[template.vm.net]]\nname="n"\ntype="user"\n' * 2,
        "template.vm[0].net: more than one is named 'n'",
    ),
    "an empty path": (_VM + '[[template.vm.disk]]\nname = "os"\npath = ""\n', "template.vm[0].disk[0].path"),
    "no type of net": (_VM + _DISK + '[[template.vm.net]]\nname = "n"\n', "net[0].type: missing"),
    "two types of net": (_VM + _DISK + '[[template.vm.net]]\nname="n"\ntype.user={}\ntype.tap={}\n', "exactly one of"),
    "an odd hypervisor": (_VM + 'hypervisor = "xen"\n' + _DISK, "template.vm[0].hypervisor"),
    "an odd user": (_VM + 'user = "-oProxyCommand=x"\n' + _DISK, "template.vm[0].user"),
    "two templates of one name": ((_VM + _DISK) * 2, "template.vm: more than one is named 'a'"),
    "two images of one name": ('[[image]]\nname = "i"\npath = "/x"\n' * 2, "image: more than one is named 'i'"),
    "two sources": ('[[image]]\nname = "i"\npath = "/x"\nnix = ".#x"\n', "image[0]: choose exactly one"),
    "args for no file": ('[[image]]\nname = "i"\npath = "/x"\nargs = {a = "b"}\n', "args are only for a Nix file"),
    "an option for a flake": ('[[image]]\nname = "i"\nnix = "--impure"\n', "image[0].nix"),
    "an option for an argument": ('[[image]]\nname = "i"\nfile = "/x"\nargs = {"--x" = "b"}\n', "image[0].args"),
}


@pytest.mark.parametrize(("text", "line"), _WRONG.values(), ids=_WRONG.keys())
def test_a_wrong_value_is_told_by_its_key(text: str, line: str, paths: Paths) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(paths, text)
    assert line in told(caught.value)
    assert caught.value.exit_code == 3


def test_a_wrong_disk_is_not_also_told_as_a_missing_one(paths: Paths) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(paths, _VM + _DISK + 'sise = "1GiB"\n')
    assert [line.partition(": ")[2] for line in caught.value.details] == [
        "template.vm[0].disk[0].sise: unknown key; did you mean size?"
    ]


def test_two_that_lack_a_name_are_not_of_one_name(paths: Paths) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(paths, ("[[template.vm]]\n" + _DISK) * 2)
    assert "more than one is named" not in told(caught.value)


def test_a_near_match_is_told_in_a_pool_too(paths: Paths) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(paths, '[dhcp.fake.pool.main]\nsubnt = "10.0.0.0/24"\n')
    assert "did you mean subnet?" in told(caught.value)


def test_an_error_of_another_file_does_not_name_this_one(paths: Paths) -> None:
    other = replace(paths, config=paths.config.with_name("other.toml"))
    with pytest.raises(ConfigError, match=r"other\.toml has 1 problem$"):
        _load(other, "x = 1\n")


def test_paths_of_the_configuration_begin_in_its_folder(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    config = _load(paths, "")
    assert config.local("img/a.raw") == paths.config.parent / "img/a.raw"
    assert config.local("/img/a.raw") == Path("/img/a.raw")
    assert config.local("~/a.raw") == Path.home() / "a.raw"


_LOCAL = '[[template.vm.disk]]\nname = "os"\npath = "/x"\n'
_NET = '[[template.vm.net]]\nname = "n"\n'
_IMAGE = '[[image]]\nname = "i"\n'
_WORDS = {
    "text for a number": (
        _VM + 'vcpu = "2"\n' + _LOCAL,
        "vm[0].vcpu: must be a whole number, without quotes (it is '2')",
    ),
    "a part of a number": (
        _VM + "vcpu = 1.5\n" + _LOCAL,
        "vm[0].vcpu: must be a whole number, without quotes (it is 1.5)",
    ),
    "truth for a number": (_VM + "vcpu = true\n" + _LOCAL, "must be a whole number, without quotes (it is true)"),
    "a day for a number": (_VM + "vcpu = 2024-05-06\n" + _LOCAL, "without quotes (it is 2024-05-06)"),
    "too few": (_VM + "vcpu = 0\n" + _LOCAL, "vm[0].vcpu: must be 1 or more (it is 0)"),
    "too many": (_VM + "vcpu = 1025\n" + _LOCAL, "vm[0].vcpu: must be 1024 or less (it is 1025)"),
    "too little memory": (_VM + 'vram = "1MiB"\n' + _LOCAL, "a VM needs at least 64MiB of memory (it is '1MiB')"),
    "a number for text": ("[[template.vm]]\nname = 5\n" + _LOCAL, "vm[0].name: must be text, in quotes (it is 5)"),
    "text for truth": (_VM + _LOCAL + 'readonly = "maybe"\n', "must be true or false, without quotes (it is 'maybe')"),
    "a number for truth": (_VM + _LOCAL + "readonly = 5.5\n", "must be true or false, without quotes (it is 5.5)"),
    "an odd hypervisor": (
        _VM + 'hypervisor = "qem"\n' + _LOCAL,
        "vm[0].hypervisor: must be one of auto, cloud-hypervisor, qemu (it is 'qem'); did you mean qemu?",
    ),
    "a user of two words": (
        _VM + 'user = "Ada L"\n' + _LOCAL,
        "vm[0].user: must be a user name: 1 to 32 of a-z",
    ),
    "an empty path": (_VM + '[[template.vm.disk]]\nname = "os"\npath = ""\n', "disk[0].path: must not be empty"),
    "a path with NUL": (_VM + '[[template.vm.disk]]\nname = "os"\npath = "a\\u0000"\n', "path without a NUL"),
    "a table for a list": ('[template.vm]\nname = "a"\n', "template.vm: must be a list, written as [[template.vm]]"),
    "text for a list": ('image = "x"\n', "image: must be a list, written as [[image]]"),
    "texts for tables": ('image = ["x"]\n', "image[0]: must be a table, written as [[image]]"),
    "text for a table": ("node = 'x'\n", "node: must be a table, written as [node]"),
    "no disks": (_VM + "disk = []\n", "template.vm[0].disk: must have at least one entry"),
    "no such type of net": (
        _VM + _LOCAL + _NET + 'type = "foo"\n',
        "vm[0].net[0].type: there is no type 'foo'; the types are user, tap, macvtap, vhost",
    ),
    "nor as a table": (_VM + _LOCAL + _NET + "type.foo = {}\n", "there is no type 'foo'; the types are user, tap"),
    "a number for a type": (
        _VM + _LOCAL + _NET + "type = 5\n",
        'must be text, as in type = "user"; the types are user',
    ),
    "an unknown image of ours": (_IMAGE + 'builtin = "tinny"\n', "must be one of tiny, nixos (it is 'tinny'); did you"),
    "an option for a flake": (_IMAGE + 'nix = "-x#y"\n', "image[0].nix: must be FLAKE#ATTRIBUTE"),
    "a list for arguments": (_IMAGE + 'file = "x"\nargs = ["a"]\n', "image[0].args: must be a table"),
    "an odd argument": (_IMAGE + 'file = "x"\nargs."1 2" = "a"\n', "must be the name of an argument of the Nix file"),
    "a number for an argument": (_IMAGE + 'file = "x"\nargs.a = 1\n', "image[0].args.a: must be text, in quotes"),
    "three ends of a range": ('[dhcp.fake.pool.x]\nrange = ["1", "2", "3"]\n', "must have at most 2 entries"),
}


@pytest.mark.parametrize(("text", "line"), _WORDS.values(), ids=_WORDS.keys())
def test_a_problem_is_told_in_words_of_who_wrote_it(text: str, line: str, paths: Paths) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(paths, text)
    assert line in told(caught.value)
    assert len(caught.value.details) == 1
    assert not FOREIGN.search(told(caught.value))


def test_a_byte_order_mark_is_skipped(paths: Paths) -> None:
    paths.config.write_bytes(b"\xef\xbb\xbf" + (_VM + _LOCAL).encode())
    assert "a" in load(paths).templates


def test_a_fifo_is_no_configuration_and_is_not_waited_for(paths: Paths) -> None:
    paths.config.unlink(missing_ok=True)
    os.mkfifo(paths.config)
    with pytest.raises(ConfigError, match="it is a FIFO, not a file"):
        load(paths)
