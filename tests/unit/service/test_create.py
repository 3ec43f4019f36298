from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.support import KEY, OWN_KEY, link, make_vm, put_broken, put_vm, snapshot, uuid_of
from virshle.errors import ConfigError, ConflictError, HostError, NotFoundError, UsageError, VirshleError
from virshle.fs import try_lock
from virshle.model.vm import User
from virshle.nix import NixHost
from virshle.plan import Step, executor
from virshle.plan.executor import Moment
from virshle.service import create as service
from virshle.service.create import Order, create
from virshle.service.lifecycle import delete
from virshle.service.node import Node
from virshle.service.show import details
from virshle.store import Entry, Layout, Store

VMS = ("vm", "name", "id")


def _state(layout: Layout) -> dict[str, str]:
    return {path: what for path, what in snapshot(layout.paths.state).items() if path.startswith(VMS)}


def test_a_vm_is_created_whole(node: Node, layout: Layout, image: Path) -> None:
    (vm,) = create(node, Order("t", "web"))
    assert (vm.name, vm.id, vm.template) == ("web", 1, "t")
    folder = layout.vm(vm.uuid)
    assert (folder / "disk/os").read_bytes() == image.read_bytes().ljust(2**20, b"\0")
    assert (folder / "disk/data").stat().st_size == 2**21
    assert node.store.find("web").whole() == vm
    assert sorted(path.name for path in layout.vms.iterdir()) == [str(vm.uuid)]


@pytest.mark.parametrize("lack", ["cloud-hypervisor", "KVM"])
def test_what_nothing_here_could_run_is_not_made(lack: str, node: Node, layout: Layout, host: FakeHost) -> None:
    config = layout.paths.config
    config.write_text(config.read_text().replace('name = "t"', 'name = "t"\nhypervisor = "cloud-hypervisor"'))
    host.have_cloud_hypervisor()
    create(Node(layout.paths), Order("t", "works"))
    before = _state(layout)
    if lack == "KVM":
        host.kvm = "/dev/kvm is not there"
    else:
        (host.programs / lack).unlink()
    with pytest.raises(ConfigError, match=lack) as caught:
        create(Node(layout.paths), Order("t", "web"))
    assert caught.value.exit_code == 3
    assert _state(layout) == before


def test_its_definition_is_private_and_its_commands_are_kept(node: Node, layout: Layout) -> None:
    (vm,) = create(node, Order("t", "web"))
    folder = layout.vm(vm.uuid)
    assert (folder / "vm.json").stat().st_mode & 0o777 == 0o600
    kept = (folder / "commands.log").read_text()
    assert "cp --reflink=auto" in kept
    assert "mv -T" in kept
    assert kept.index("mkdir") < kept.index("cp --reflink") < kept.index("mv -T")


def test_virshles_key_and_the_callers_may_enter(node: Node, tmp_path: Path) -> None:
    ssh = tmp_path / "home/.ssh"
    ssh.mkdir()
    (ssh / "a.pub").write_text(f"{KEY}\n{KEY}\n{OWN_KEY}\n")
    (vm,) = create(node, Order("t"))
    assert vm.authorized_keys == (OWN_KEY, KEY)


def test_users_and_account_come_from_user_data(node: Node, tmp_path: Path) -> None:
    data = tmp_path / "data.toml"
    data.write_text(f'[[user]]\nname = "ada"\n[account]\nuuid = "{uuid_of("a")}"\n')
    (vm,) = create(node, Order("t", user_data=[data]))
    # `v ssh -l ada` enters too.
    assert vm.users == (User(name="ada", authorized_keys=(OWN_KEY,)),)
    assert vm.account == uuid_of("a")


def test_a_cloud_config_stays_with_the_vm(
    node: Node, layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "cloud.yaml"
    data.write_text("#cloud-config\npackages: [nginx]\n")
    create(node, Order("t", "web", user_data=[data]))
    data.unlink()
    entry = node.store.find("web")
    assert entry.whole().cloud_config == "#cloud-config\npackages: [nginx]\n"
    assert details(node, entry)["cloud_config"] == ["#cloud-config", "packages: [nginx]"]
    # What becomes of it is for the image.
    said = capsys.readouterr().err
    assert "cloud-config: only cloud-init in" in said
    assert "v does not check the YAML" in said


@pytest.mark.parametrize(
    ("takes", "text", "why"),
    [
        (frozenset({"users"}), "#cloud-config\na: 1\n", "has no cloud-init"),
        (frozenset({"cloud-config"}), '[[user]]\nname = "ada"\n', "cannot create users"),
        (frozenset(), '[[user]]\nname = "ada"\n', "cannot create users"),
        (frozenset({"users"}), '[[user]]\nname = "ada"\n', None),
        (frozenset({"cloud-config"}), "#cloud-config\na: 1\n", None),
        (frozenset(), "", None),
    ],
)
def test_what_the_image_does_not_take_is_refused(
    takes: frozenset[str], text: str, why: str | None, node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = service._source
    monkeypatch.setattr(service, "_source", lambda *words: replace(real(*words), takes=takes))
    data = tmp_path / "data"
    data.write_text(text)
    if why is None:
        assert create(node, Order("t", user_data=[data]))
        return
    with pytest.raises(ConfigError, match=why):
        create(node, Order("t", user_data=[data]))
    assert node.store.entries() == []


def test_several_are_numbered_by_name(node: Node) -> None:
    vms = create(node, Order("t", "db", count=3))
    assert [(vm.name, vm.id) for vm in vms] == [("db-1", 1), ("db-2", 2), ("db-3", 3)]


def test_the_lowest_free_number_is_taken(node: Node, layout: Layout) -> None:
    put_vm(layout, make_vm("a", 1), links=False)
    put_vm(layout, make_vm("b", 3))
    put_broken(layout, uuid_of("bad"))
    link(layout.id(2), uuid_of("bad"))
    assert [vm.id for vm in create(node, Order("t", count=2))] == [4, 5]


def test_names_are_made_up_and_differ(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.choice", lambda words: words[0])
    assert len({vm.name for vm in create(node, Order("t", count=3))}) == 3


def test_what_an_interrupted_create_left_is_cleaned_first(node: Node, layout: Layout) -> None:
    layout.staged(uuid_of("old")).mkdir()
    link(layout.name("web"), uuid_of("old"))
    link(layout.id(1), uuid_of("old"))
    (vm,) = create(node, Order("t", "web"))
    assert (vm.name, vm.id) == ("web", 1)
    assert sorted(path.name for path in layout.vms.iterdir()) == [str(vm.uuid)]


@pytest.mark.parametrize(
    ("order", "kind"),
    [
        (Order("nothing"), NotFoundError),
        (Order("lan"), ConfigError),
        (Order("t", "Not-A-Name"), UsageError),
        (Order("t", "7"), UsageError),
        (Order("t", "x" * 62, count=2), UsageError),
        (Order("t", "taken"), ConflictError),
        (Order("t", "claimed"), ConflictError),
        (Order("t", user_data=[Path("/nowhere")]), NotFoundError),
        (Order("nixos"), ConfigError),
    ],
)
def test_what_is_certainly_wrong_is_told_before_anything_is_done(
    order: Order, kind: type[VirshleError], node: Node, layout: Layout, host: FakeHost
) -> None:
    put_vm(layout, make_vm("taken"))
    put_broken(layout, uuid_of("bad"), name="claimed")
    before = snapshot(layout.paths.state)
    with pytest.raises(kind) as caught:
        create(node, order)
    assert caught.value.hint
    assert snapshot(layout.paths.state) == before
    assert host.calls == []


def test_of_several_none_is_created_where_one_cannot_be(node: Node, layout: Layout) -> None:
    put_vm(layout, make_vm("db-2"))
    before = _state(layout)
    with pytest.raises(ConflictError, match="'db-2' already"):
        create(node, Order("t", "db", count=3))
    assert _state(layout) == before


def test_too_little_space_is_told_before_anything_is_done(
    node: Node, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.statvfs", lambda _: type("Full", (), {"f_bavail": 1, "f_frsize": 512}))
    with pytest.raises(HostError, match="not enough space"):
        create(node, Order("t"))
    assert _state(layout) == dict.fromkeys(VMS, "folder")


@pytest.mark.parametrize("error", [HostError("this one fails"), KeyboardInterrupt()])
def test_a_failure_at_any_step_leaves_nothing(error: BaseException, node: Node, layout: Layout) -> None:
    """Before and after each step there is."""
    create(node, Order("t", "first"))
    before, moments = _state(layout), _moments()
    create(node, Order("t", "dry", count=2))
    total = len(moments)
    executor.observers.clear()
    for vm in ("dry-1", "dry-2"):
        _forget(node, vm)
    assert _state(layout) == before
    assert total > 20

    for at in range(total):
        seen = _moments(fail_at=at, error=error)
        with pytest.raises(type(error)):
            create(node, Order("t", "x", count=2))
        executor.observers.clear()
        assert _state(layout) == before, seen[at]
        assert _none_is_locked(layout), seen[at]


def _none_is_locked(layout: Layout) -> bool:
    locks = [try_lock(folder) for folder in layout.vms.iterdir()]
    for lock in locks:
        if lock is not None:
            lock.release()
    return None not in locks


def _moments(fail_at: int | None = None, error: BaseException | None = None) -> list[str]:
    seen: list[str] = []

    def observe(moment: Moment, step: Step) -> None:
        if moment == "undo":
            return
        seen.append(f"{moment} {step.why}")
        if error is not None and len(seen) == (fail_at or 0) + 1:
            raise error

    executor.observers.append(observe)
    return seen


def _forget(node: Node, name: str) -> None:
    delete(node, node.store.find(name))


def test_while_it_is_made_its_folder_is_locked_and_commands_hold_the_lock(
    node: Node, layout: Layout, host: FakeHost
) -> None:
    locked: list[bool] = []

    def look(argv: tuple[str, ...]) -> None:
        if argv[0] == "cp":
            (staged,) = layout.vms.glob(".new-*")
            locked.append(try_lock(staged) is None)

    host.before = look
    create(node, Order("t"))
    assert locked
    assert all(locked)
    assert all(len(locks) == 1 for argv, locks in zip(host.calls, host.locks, strict=True) if argv[0] == "cp")


def test_a_dry_run_shows_every_step_and_does_nothing(node: Node, layout: Layout, host: FakeHost) -> None:
    shown: list[str] = []
    create(node, Order("t", "real"))
    before, done = snapshot(layout.paths.state), [argv[0] for argv in host.calls]
    host.calls.clear()
    create(replace(node, dry_run=shown.append), Order("t", "dry"))
    assert snapshot(layout.paths.state) == before
    assert {argv[0] for argv in host.calls} <= {"stat"}
    programs = [text.split("\n")[1].split()[0] for text in shown]
    assert programs.count("cp") == done.count("cp")
    assert programs.count("ln") == 2
    assert all(text.startswith("# dry: ") for text in shown if "sync --file-system" not in text)
    assert sum("sync --file-system" in text for text in shown) == 2


def test_a_dry_run_on_a_fresh_host_makes_no_folder(node: Node, tmp_path: Path) -> None:
    shown: list[str] = []
    create(Node(replace(node.paths, state=tmp_path / "fresh"), dry_run=shown.append), Order("t"))
    assert not (tmp_path / "fresh").exists()
    assert "mkdir -p -m 0700" in shown[0]


@pytest.mark.parametrize("size", ["", 'size = "1GiB"'], ids=["of the image's size", "of a size"])
def test_a_dry_run_works_before_its_image_is_built(
    size: str, node: Node, monkeypatch: pytest.MonkeyPatch, layout: Layout, tmp_path: Path
) -> None:
    monkeypatch.setattr("virshle.service.image.find_nix", lambda _: NixHost("nix", (2, 18), "/nix/store"))
    (tmp_path / "x.nix").write_text("")
    with layout.paths.config.open("a") as file:
        file.write(f'[[image]]\nname = "x"\nfile = "{tmp_path / "x.nix"}"\n')
        file.write(f'[[template.vm]]\nname = "n"\n[[template.vm.disk]]\nname = "os"\nimage = "x"\n{size}\n')
    shown: list[str] = []
    create(Node(layout.paths, dry_run=shown.append), Order("n", "dry"))
    assert any("nix build" in text for text in shown)
    assert any("mv -T" in text for text in shown)


def test_of_many_each_command_holds_only_the_lock_of_its_own_vm(node: Node, layout: Layout, host: FakeHost) -> None:
    create(node, Order("t", "db", count=3))
    filled = [(argv[-1], locks) for argv, locks in zip(host.calls, host.locks, strict=True) if argv[0] == "cp"]
    by_vm: dict[str, set[tuple[int, ...]]] = {}
    for target, locks in filled:
        by_vm.setdefault(target.split("/.new-")[1][:36], set()).add(locks)
    assert len(by_vm) == 3
    assert all(len(locks) == 1 for locks in by_vm.values())
    assert len({next(iter(locks)) for locks in by_vm.values()}) == 3


def test_all_of_it_is_on_the_disk_before_the_commit_and_the_commit_before_the_end(node: Node, host: FakeHost) -> None:
    create(node, Order("t", "db", count=2))
    work = [argv[0] for argv in host.calls if argv[0] in ("cp", "sync") or "/.new-" in argv[-2]]
    assert work[-4:] == ["sync", "mv", "mv", "sync"]
    assert work.count("sync") == 2
    assert "cp" in work


def test_a_relative_disk_begins_in_the_folder_of_the_configuration(
    node: Node, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    with layout.paths.config.open("a") as file:
        file.write('[[template.vm]]\nname = "near"\n[[template.vm.disk]]\nname = "os"\npath = "image.raw"\n')
    (vm,) = create(Node(layout.paths), Order("near"))
    assert vm.origin.source == str(layout.paths.config.parent / "image.raw")


def test_each_vm_of_many_costs_the_same_few_processes_and_definitions_are_read_once(
    node: Node, layout: Layout, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[UUID] = []
    entry = Store.entry

    def counted(store: Store, uuid: UUID) -> Entry:
        reads.append(uuid)
        return entry(store, uuid)

    monkeypatch.setattr(Store, "entry", counted)
    create(node, Order("t", "first"))
    counts = []
    for name, count in (("one", 1), ("few", 2), ("many", 100)):
        host.calls.clear()
        reads.clear()
        before = len(list(layout.vms.iterdir()))
        create(node, Order("t", name, count=count))
        counts.append(len(host.calls))
        assert len(reads) == before
    one, few, many = counts
    each = few - one
    # mkdir, ln, ln, cp and truncate of one disk, truncate of the other, mv; and what it boots by.
    assert each <= 8
    assert many == one + 99 * each


def test_a_definition_waits_for_the_sync_before_the_commit(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    create(node, Order("t", "db", count=3))
    assert synced == []
