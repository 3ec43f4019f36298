"""Images that flakes build, by the real nix: pinned, checked, updated; and what goes wrong with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.host.flakes import SCRIPT, configure, git, realised, rebuilt, record, row, write_flake
from tests.host.flakes import flake as flake
from tests.host.flakes import repository as repository
from tests.host.host import Host
from virshle.model.arch import host_arch

pytestmark = pytest.mark.nix


@pytest.mark.heart
def test_a_commit_is_pinned_and_built_exactly_so_again(bare: Host, repository: Path) -> None:
    bare.v("create", "-t", "own", "web")
    pin = record(bare)["pin"]
    assert pin["revision"] == git(repository, "rev-parse", "HEAD")
    assert pin["dirty"] is False
    assert pin["nar_hash"].startswith("sha256-")
    write_flake(repository, 2)
    git(repository, "commit", "-qam", "two")
    (info,) = json.loads(bare.v("info", "web", "--format", "json").stdout)
    assert info["origin"]["pin"] == pin
    assert rebuilt(bare, info["rebuild"]) == info["origin"]["store_path"] == record(bare)["store_path"]


def test_a_dirty_tree_is_built_and_said_to_be(bare: Host, repository: Path) -> None:
    write_flake(repository, 2)
    bare.v("create", "-t", "own", "web")
    shown = row(bare)
    assert shown["revision"].endswith("-dirty")
    assert shown["virtual"] == 2 * 2**20
    write_flake(repository, 1)
    (info,) = json.loads(bare.v("info", "web", "--format", "json").stdout)
    assert info["origin"]["pin"]["dirty"] is True
    assert rebuilt(bare, info["rebuild"]) == shown["store_path"]


def test_a_dirty_flake_in_a_folder_of_a_repository_is_built_of_all_of_it(bare: Host, repository: Path) -> None:
    """It reads a file beside its own folder."""
    folder = repository / "deep/er"
    folder.parent.mkdir()
    write_flake(folder)
    text = (folder / "flake.nix").read_text()
    (folder / "flake.nix").write_text(text.replace('name = "x";', "name = import ../../name.nix;"))
    (repository / "name.nix").write_text('"of-all"\n')
    git(repository, "add", ".")
    for number, reference in enumerate(("./flake/deep/er#image", "git+file:./flake?dir=deep/er#image")):
        configure(bare, reference)
        bare.v("create", "-t", "own", f"web-{number}")
        (info,) = json.loads(bare.v("info", f"web-{number}", "--format", "json").stdout)
        assert info["origin"]["store_path"].endswith("-of-all")
        assert info["origin"]["pin"]["dirty"] is True
        assert rebuilt(bare, info["rebuild"]) == info["origin"]["store_path"]


@pytest.mark.parametrize("name", ["a b", 'é 50%25 [x] q"\\'])
@pytest.mark.parametrize("kind", ["folder", "repository", "folder of a repository"])
def test_a_folder_may_be_called_anything(bare: Host, flake: Path, name: str, kind: str) -> None:
    folder = bare.folder / name
    flake.rename(folder)
    if kind != "folder":
        git(folder, "init", "-q")
        if kind == "folder of a repository":
            write_flake(folder / "a b")
        git(folder, "add", ".")
        git(folder, "commit", "-qm", "one")
    where = f"./{name}/a b" if kind == "folder of a repository" else f"./{name}"
    configure(bare, json.dumps(f"{where}#image")[1:-1])
    bare.v("create", "-t", "own", "web")
    (info,) = json.loads(bare.v("info", "web", "--format", "json").stdout)
    assert rebuilt(bare, info["rebuild"]) == info["origin"]["store_path"]
    assert (info["origin"]["pin"].get("revision") is None) == (kind == "folder")


def test_a_path_with_a_scheme_is_of_the_folder_of_the_configuration(bare: Host, flake: Path) -> None:
    configure(bare, "path:flake#image")
    bare.v("image", "build", "own")
    assert record(bare)["pin"]["flake"] == f"path:{flake}"


def test_the_same_input_gives_the_same_store_path(bare: Host, flake: Path, tmp_path: Path) -> None:
    bare.v("image", "build", "own")
    first = record(bare)["store_path"]
    shutil.copytree(flake, tmp_path / "copy")
    configure(bare, f"path:{tmp_path}/copy#image")
    bare.v("image", "build", "own")
    assert record(bare)["store_path"] == first


def test_outdated_is_told_when_asked_and_an_update_mends_it(bare: Host, repository: Path) -> None:
    bare.v("create", "-t", "own", "web")
    (repository / "README").write_text("nothing of it is in the image\n")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "words")
    assert row(bare)["current"] is None
    assert row(bare, "--check")["current"] == "current"
    write_flake(repository, 2)
    assert row(bare, "--check")["current"] == "outdated"
    assert bare.ls()[0]["outdated"] is False
    before = record(bare)["store_path"]
    said = bare.v("image", "update").stderr
    assert f"updated own: {before} -> {record(bare)['store_path']}" in said
    assert before != record(bare)["store_path"]
    assert bare.ls()[0]["outdated"] is True
    assert "own is current" in bare.v("image", "update", "own").stderr
    templates = json.loads(bare.v("template", "ls", "--check", "--format", "json").stdout)
    own = next(row for row in templates if row["name"] == "own")
    assert (own["built"], own["virtual"], own["current"]) == (True, 2 * 2**20, "current")


def test_a_nixos_configuration_means_its_image(bare: Host, flake: Path) -> None:
    configure(bare, "./flake#nixosConfigurations.web")
    bare.v("image", "build", "own")
    assert record(bare)["pin"]["attribute"] == "nixosConfigurations.web.config.system.build.virshleImage"


def test_the_built_in_nixos_needs_no_configuration(bare: Host, flake: Path) -> None:
    bare.env.pop("VIRSHLE_CONFIG")
    bare.env["VIRSHLE_FLAKE"] = f"path:{flake}"
    bare.v("create", "-t", "nixos", "web")
    assert bare.ls()[0]["image"] == "nixos"
    assert record(bare, "nixos")["pin"]["flake"] == f"path:{flake}"


@pytest.mark.parametrize("name", ["own", "tiny"])
def test_what_no_flake_built_is_built_by_its_derivation_again(host: Host, name: str) -> None:
    """`tiny` too, whose record was made with its build."""
    if name == "own":
        expression = host.folder / "own.nix"
        expression.write_text(
            'derivation { name = "x"; builder = "/bin/sh"; args = [ "-c" "'
            + SCRIPT.format(size=1)
            + f'" ]; system = "{host_arch().nix}"; }}'
        )
        host.configure(
            f'[[image]]\nname = "own"\nfile = "{expression}"\n'
            '[[template.vm]]\nname = "own"\n[[template.vm.disk]]\nname = "os"\nimage = "own"\n'
        )
        host.env["NIX_CONFIG"] = "sandbox = false\nsubstituters ="
    host.v("create", "-t", name, "web")
    (info,) = json.loads(host.v("info", "web", "--format", "json").stdout)
    assert info["rebuild"].startswith("nix-store --realise /nix/store/")
    assert realised(host, info["rebuild"]) == info["origin"]["store_path"]


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("./flake#imgae", ("imgae", "nix flake show")),
        ("./flake#nixosConfigurations.bare", ("virshleImage", "nixosModules.guest")),
        ("./flake#nixosConfigurations.wrong", ("A definition for option `x' is not of type `string'",)),
        ("./flake#nixosConfigurations.web.config.system", ("config.system", "name an attribute that is a package")),
        ("./flake#nixosConfigurations.wbe", ("wbe",)),
        ("path:./flake?narHash=sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=#image", ("mismatch", "pinned")),
        ("no-such-registry-entry#image", ("no-such-registry-entry",)),
    ],
)
def test_a_flake_that_cannot_be_built_is_told_as_nix_said_it(
    bare: Host, flake: Path, reference: str, parts: tuple[str, ...]
) -> None:
    configure(bare, reference)
    # Nobody answers there: the machine may have no network, and needs none for this.
    bare.env["NIX_CONFIG"] += "\nflake-registry = \n"
    said = bare.v("create", "-t", "own", code=6).stderr
    for part in parts:
        assert part in said
    assert bare.ls() == []
    assert not (bare.state / "image" / "own" / "result").is_symlink()


def test_a_flake_that_is_not_there_is_told_before_nix_is_asked(bare: Host) -> None:
    configure(bare, "./nowhere#image")
    said = bare.v("create", "-t", "own", code=4).stderr
    assert f"there is no flake {bare.folder / 'nowhere'}" in said
    assert bare.ls() == []


def test_without_network_what_mends_it_is_told(bare: Host, flake: Path) -> None:
    configure(bare, "http://127.0.0.1:9/x.tar.gz#image")
    bare.env["NIX_CONFIG"] += "\ndownload-attempts = 1"
    said = bare.v("image", "build", "own", code=6).stderr
    assert "127.0.0.1" in said
    assert "hint: the network does not reach it" in said


@pytest.mark.parametrize("word", ["--impure#x", "-f#x", "x", "a b#x"])
def test_what_nix_would_read_as_an_option_is_refused(bare: Host, flake: Path, word: str) -> None:
    configure(bare, word)
    said = bare.v("image", "build", "own", code=3).stderr
    assert "image" in said


def test_a_build_that_needs_kvm_tells_the_line_for_nix_conf(bare: Host, flake: Path) -> None:
    text = (flake / "flake.nix").read_text()
    (flake / "flake.nix").write_text(text.replace('name = "x";', 'name = "x"; requiredSystemFeatures = [ "kvm" ];'))
    bare.env["NIX_CONFIG"] += "\nsystem-features = benchmark"
    assert "extra-system-features = kvm" in bare.v("image", "build", "own", code=6).stderr


def test_a_builder_may_write_megabytes_without_a_newline(bare: Host, flake: Path) -> None:
    long = "/usr/bin/head -c 3000000 /dev/zero | /usr/bin/tr '\\\\0' x; echo; echo after; "
    write_flake(flake, script=long + SCRIPT)
    bare.v("image", "build", "own")
    write_flake(flake, script=long + "exit 3")
    said = bare.v("image", "build", "own", code=6).stderr
    assert "> after" in said
    assert "xxx... (3000000 characters)" in said
    assert len(said) < 10_000


def test_a_qcow2_image_is_refused_with_what_to_set(bare: Host, flake: Path) -> None:
    write_flake(flake, script="/bin/mkdir $out; echo QFI > $out/nixos.qcow2")
    said = bare.v("create", "-t", "own", code=3).stderr
    assert "nixos.qcow2" in said
    assert 'image.format = "raw"' in said


def test_a_full_disk_is_told_with_what_frees_it(bare: Host, flake: Path, small_disk: Callable[[str], Path]) -> None:
    write_flake(flake, 64)
    store = small_disk("24m")
    for name, folder in {"STORE": "store", "STATE": "var", "LOG": "log", "CONF": "etc"}.items():
        bare.env[f"NIX_{name}_DIR"] = str(store / "nix" / folder)
    said = bare.v("image", "build", "own", code=6).stderr
    assert "No space left on device" in said
    assert "nix-collect-garbage" in said
    assert not (bare.state / "image" / "own" / "result").is_symlink()


def test_a_hash_that_is_another_is_told_with_both(bare: Host, flake: Path) -> None:
    hashed = 'outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = "sha256-{}=";'.format("A" * 43)
    text = (flake / "flake.nix").read_text()
    (flake / "flake.nix").write_text(text.replace('name = "x";', f'name = "x"; {hashed}'))
    said = bare.v("create", "-t", "own", code=6).stderr
    # Of one MiB of zeros.
    assert "A" * 43 in said
    assert "MOFJVevxNSJm3C/4Bn5oEEYH51CrudOzZYK4r5Cfy1g" in said
    assert "hint: the fetched file is not the pinned one" in said
    assert bare.ls() == []


def test_what_has_no_output_out_is_not_taken_for_what_was_built_before(bare: Host, flake: Path) -> None:
    bare.v("image", "build", "own")
    before = record(bare)
    script = "for one in {files}; do /bin/dd if=/dev/zero of=$one bs=1048576 count=3; done"
    attributes = "".join(
        f'{name} = derivation {{ name = "{name}"; builder = "/bin/sh"; system = "{host_arch().nix}"; '
        f'outputs = [ {outputs} ]; args = [ "-c" "{script.format(files=files)}" ]; }}; '
        for name, outputs, files in (("odd", '"dev"', "$dev"), ("two", '"dev" "out"', "$dev $out"))
    )
    text = (flake / "flake.nix").read_text()
    (flake / "flake.nix").write_text(text.replace("image =", f"{attributes}\n  image =", 1))
    configure(bare, "./flake#odd")
    # Newer Nix refuses it, older builds what there is.
    tried = bare.v("create", "-t", "own", code=None)
    assert tried.returncode in (3, 6)
    assert "hint: an image must be the output `out`" in tried.stderr
    assert record(bare) == before
    configure(bare, "./flake#two.out")
    bare.v("create", "-t", "own", "web")
    assert row(bare)["virtual"] == 3 * 2**20


@pytest.mark.parametrize("word", ["--impure", "-f"])
def test_no_name_of_an_image_and_no_flake_of_ours_is_read_as_an_option(bare: Host, flake: Path, word: str) -> None:
    bare.configure(f'[[image]]\nname = "{word}"\nnix = "./flake#image"\n')
    assert "name" in bare.v("image", "ls", code=3).stderr
    bare.env.pop("VIRSHLE_CONFIG")
    bare.env["VIRSHLE_FLAKE"] = word
    assert "VIRSHLE_FLAKE" in bare.v("image", "build", "nixos", code=3).stderr
