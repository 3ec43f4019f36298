from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.support import FakeProgress, told
from virshle.errors import ConfigError, HostError
from virshle.exec import Command, Result
from virshle.fs import expand
from virshle.model.vm import Origin, Pin
from virshle.nix import NixHost, Reference, look_up, reference
from virshle.plan import Silent

NIX = NixHost("/bin/nix", (2, 18), "/nix/store", {"NIX_STORE_DIR": "/s"}, ("--option", "x", "y"))
WANTED = Reference("/f", "image")
REVISION = "3b337a64078af86a73652bf9fe6150918d4f5bba"
GIT = {
    "originalUrl": "git+file:///f",
    "url": f"git+file:///f?ref=master&rev={REVISION}",
    "path": "/nix/store/1-source",
    "locked": {"type": "git", "url": "file:///f", "rev": REVISION, "narHash": "sha256-x"},
}
DIRTY = GIT | {"url": "git+file:///f", "locked": {"type": "git", "url": "file:///f", "narHash": "sha256-x"}}
"""As Nix 2.8 says it; newer ones add dirtyRev."""


def _local(path: str) -> Path:
    return expand(path, Path("/etc/virshle"))


@pytest.mark.parametrize(
    ("text", "flake", "attribute"),
    [
        (".#x", "/etc/virshle", "x"),
        ("#x", "/etc/virshle", "x"),
        ("./f#x", "/etc/virshle/f", "x"),
        ("..#x", "/etc", "x"),
        ("../f?dir=sub#x", "/etc/f?dir=sub", "x"),
        ("path:./f#x", "path:/etc/virshle/f", "x"),
        ("path:.#x", "path:/etc/virshle", "x"),
        ("git+file:./f?dir=a#x", "git+file:///etc/virshle/f?dir=a", "x"),
        ("/f#x", "/f", "x"),
        ("path:/f?narHash=y#x", "path:/f?narHash=y", "x"),
        ("nixpkgs#hello", "nixpkgs", "hello"),
        ("github:a/b/c?dir=.#a.b.c", "github:a/b/c?dir=.", "a.b.c"),
        ("git+ssh://git@h/r#x", "git+ssh://git@h/r", "x"),
        (".f#x", ".f", "x"),
        ("path:plain#x", "path:/etc/virshle/plain", "x"),
        ("path:plain/f?narHash=y#x", "path:/etc/virshle/plain/f?narHash=y", "x"),
        ("git+file:plain#x", "git+file:///etc/virshle/plain", "x"),
        ("git+file:///f#x", "git+file:///f", "x"),
        ("git+file://host/f#x", "git+file://host/f", "x"),
        ("plain#x", "plain", "x"),
        ("./a b#x", "/etc/virshle/a b", "x"),
        ("/a%20b#x", "/a%20b", "x"),
        ("path:/a b#x", "path:/a b", "x"),
        ("path:./a%20b#x", "path:/etc/virshle/a b", "x"),
        ("path:/50% of it#x", "path:/50% of it", "x"),
        ("git+file:///%C3%A9?dir=a%20b#x", "git+file:///é?dir=a%20b", "x"),
    ],
)
def test_a_reference_is_of_the_folder_of_the_configuration(text: str, flake: str, attribute: str) -> None:
    assert reference(text, _local, whose="image 'x'") == Reference(flake, attribute)


def test_home_is_the_callers(tmp_path: Path) -> None:
    assert reference("~/f#x", _local, whose="x").flake == f"{tmp_path}/home/f"
    assert reference("~#x", _local, whose="x").flake == f"{tmp_path}/home"


@pytest.mark.parametrize(
    ("attribute", "built"),
    [
        ("nixosConfigurations.web", "nixosConfigurations.web.config.system.build.virshleImage"),
        ('nixosConfigurations."a.b"', 'nixosConfigurations."a.b".config.system.build.virshleImage'),
        ("nixosConfigurations.web.config.system.build.other", "nixosConfigurations.web.config.system.build.other"),
        ("nixosConfigurations", "nixosConfigurations"),
        ("packages.x86_64-linux.image", "packages.x86_64-linux.image"),
        ("x^out", "x^out"),
    ],
)
def test_a_nixos_configuration_means_its_image(attribute: str, built: str) -> None:
    assert reference(f".#{attribute}", _local, whose="x").attribute == built


@pytest.mark.parametrize("text", ["github:a/b", "x#", "#", "", "--impure#x", "-f#x"])
def test_what_names_no_attribute_of_a_flake_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"image 'x': nix = .* names no attribute"):
        reference(text, _local, whose="image 'x'")


@pytest.mark.parametrize("text", ["a b#x", "./f#a b", "./f?dir=a b#x", "github:a/b c#x"])
def test_a_space_is_of_a_path_or_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="has a space"):
        reference(text, _local, whose="image 'x'")


Says = Callable[..., list[Command]]


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Says:
    """What nix says; gives what was called."""

    def set_to(found: Any, *, code: int = 0, error: str = "") -> list[Command]:
        called: list[Command] = []

        def follow(command: Command, on_line: Callable[[str], None], **_: object) -> Result:
            called.append(command)
            on_line(error)
            return Result(command, code, found if isinstance(found, str) else json.dumps(found), "", 0.1)

        monkeypatch.setattr("virshle.exec.follow", follow)
        return called

    return set_to


def test_a_flake_is_pinned_by_one_call(says: Says) -> None:
    called = says(GIT)
    progress = FakeProgress()
    assert look_up(NIX, WANTED, progress) == Pin(
        flake="git+file:///f", locked=GIT["url"], attribute="image", nar_hash="sha256-x", revision=REVISION
    )
    (command,) = called
    assert command.argv[:6] == ("/bin/nix", "flake", "metadata", "--option", "x", "y")
    assert (command.argv[-1], command.env, "--refresh" in command.argv) == ("/f", {"NIX_STORE_DIR": "/s"}, False)
    assert progress.ended == ["look up /f"]


def test_who_wants_the_newest_has_the_source_asked(says: Says) -> None:
    called = says(GIT)
    look_up(NIX, WANTED, Silent(), refresh=True)
    assert "--refresh" in called[0].argv


@pytest.mark.parametrize(
    ("more", "locked"),
    [
        ({}, "path:/nix/store/1-source"),
        ({"dirtyRev": f"{REVISION}-dirty"}, "path:/nix/store/1-source"),
        ({"dir": "a b"}, "path:/nix/store/1-source?dir=a%20b"),
    ],
)
def test_changes_that_were_not_committed_are_pinned_by_nixs_copy(
    more: dict[str, str], locked: str, says: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virshle.nix.flake.spawn_ok", lambda command: True)
    says(DIRTY | {"locked": {**DIRTY["locked"], **more}})  # type: ignore[dict-item]
    pin = look_up(NIX, WANTED, Silent())
    assert (pin.dirty, pin.revision, pin.locked) == (True, None, locked)
    assert pin.short == "x-dirty"


def test_a_nix_that_reads_no_folder_of_its_copy_is_given_the_flake_itself(
    says: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nix 2.8: path URL '..' has unsupported parameter 'dir'. What gives the same again is the derivation."""
    monkeypatch.setattr("virshle.nix.flake.spawn_ok", lambda command: False)
    url = "git+file:///f?dir=sub"
    says(DIRTY | {"url": url, "locked": {**DIRTY["locked"], "dir": "sub"}})  # type: ignore[dict-item]
    pin = look_up(NIX, WANTED, Silent())
    assert (pin.dirty, pin.locked, pin.exact) == (True, url, False)
    assert Origin(source="x", pin=pin, derivation="/nix/store/1-x.drv").rebuild[-1] == "/nix/store/1-x.drv"


@pytest.mark.parametrize(
    ("flake", "git", "asked"),
    [
        ("/a b", None, "path:/a%20b"),
        ("/a b?narHash=x", None, "path:/a%20b?narHash=x"),
        ("path:/é/50%", None, "path:/%C3%A9/50%25"),
        ("git+file:///a b?dir=c", None, "git+file:///a%20b?dir=c"),
        ("/a b/c d/e", "/a b", "git+file:///a%20b?dir=c%20d/e"),
        ("/a b/c", "/a b/c", "git+file:///a%20b/c"),
        ("path:/a b/c", "/a b", "path:/a%20b/c"),
        ("/ab/c", "/ab", "/ab/c"),
        ("github:a/b", None, "github:a/b"),
    ],
)
def test_characters_that_no_url_has_are_written_as_nix_reads_them(
    flake: str, git: str | None, asked: str, says: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a repository a path means that, to Nix too."""
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == f"{git}/.git")
    called = says(GIT)
    new = NixHost("/bin/nix", (2, 34), "/nix/store")
    assert look_up(new, Reference(flake, "image"), Silent()).flake == (GIT["originalUrl"] if flake == asked else flake)
    assert called[0].argv[-1] == asked


def test_a_nix_that_reads_no_such_path_is_given_its_own_copy(says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[Command] = []

    def add(command: Command) -> Result:
        copied.append(command)
        return Result(command, 0, "/nix/store/1-source\n", "", 0.1)

    monkeypatch.setattr("virshle.nix.flake.run", add)
    url = "path:/nix/store/1-source?narHash=x"
    called = says({"originalUrl": "path:/nix/store/1-source", "url": url, "locked": {"type": "path"}})
    pin = look_up(NIX, Reference("/a b?narHash=x", "image"), Silent())
    assert copied[0].argv[-3:] == ("--name", "source", "/a b")
    assert called[0].argv[-1] == url
    assert (pin.flake, pin.locked) == ("/a b?narHash=x", url)


def test_where_nix_keeps_no_copy_the_flake_is_named_as_it_is(says: Says) -> None:
    says({key: value for key, value in DIRTY.items() if key != "path"})
    assert look_up(NIX, WANTED, Silent()).locked == "git+file:///f"


def test_a_folder_has_no_revision_and_is_not_dirty(says: Says) -> None:
    url = "path:/f?lastModified=1&narHash=sha256-abc"
    says({"url": url, "locked": {"type": "path", "path": "/f", "narHash": "sha256-abc"}})
    pin = look_up(NIX, WANTED, Silent())
    assert (pin.dirty, pin.revision, pin.locked, pin.short) == (False, None, url, "abc")
    assert pin.installable == f"{url}#image"


@pytest.mark.parametrize(
    "found", ["", "{", "[]", "1", {"url": "x"}, {"locked": {}}, {"url": 1, "locked": {"type": "x"}}]
)
def test_what_is_no_answer_is_told(found: Any, says: Says) -> None:
    says(found)
    with pytest.raises(HostError, match="nix gave an unexpected answer about /f") as caught:
        look_up(NIX, WANTED, Silent())
    assert "nix flake metadata --json /f" in caught.value.hint


def test_a_flake_that_is_not_there_is_told_as_nix_said_it(says: Says) -> None:
    says("", code=1, error="error: getting status of '/f': No such file or directory")
    with pytest.raises(HostError) as caught:
        look_up(NIX, WANTED, Silent())
    assert "getting status of '/f'" in told(caught.value)
    assert caught.value.hint == "check the paths in the error"
