"""A node on a faked host, with a template `t` whose disk is a file, and a QEMU that answers while it lives."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fakehost import FakeHost
from virshle.errors import HostError, TimedOutError
from virshle.exec import Command, Result
from virshle.nix import NixHost
from virshle.rpc import Http, Qmp
from virshle.service.create import Order, create
from virshle.service.node import Entry, Node
from virshle.store import Layout
from virshle.vmm import cloud_hypervisor


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.raw"
    path.write_bytes(b"\1" * 4096)
    return path


@pytest.fixture
def node(layout: Layout, image: Path, host: FakeHost, firmware: None) -> Node:
    layout.paths.config.write_text(
        f"""
        [[template.vm]]
        name = "t"
        vram = "128MiB"
        [[template.vm.disk]]
        name = "os"
        path = "{image}"
        size = "1MiB"
        [[template.vm.disk]]
        name = "data"
        size = "2MiB"
        [[template.vm.net]]
        name = "main"
        type = "user"
        [[template.vm]]
        name = "lan"
        [[template.vm.disk]]
        name = "os"
        path = "{image}"
        [[template.vm.net]]
        name = "main"
        [template.vm.net.type.tap]
        """
    )
    return Node(layout.paths)


@pytest.fixture
def guest(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> Guest:
    return Guest(host, monkeypatch)


class Guest:
    """QEMU as far as QMP shows it."""

    def __init__(self, host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = host
        self.status = "running"
        self.power_button: Callable[[], object] = host.die
        self.asked: list[str] = []
        self.ask: Callable[[], object] = lambda: None

        def send(request: Qmp) -> dict[str, Any]:
            self.asked.append(request.command)
            self.ask()
            if not host.alive:
                raise HostError("nobody listens")
            if request.timeout <= 0:
                raise TimedOutError("QEMU did not answer within 0 s")
            if request.command == "system_powerdown":
                self.power_button()
            self.status = {"stop": "paused", "cont": "running"}.get(request.command, self.status)
            return {"status": self.status}

        monkeypatch.setattr(Qmp, "send", send)


@pytest.fixture
def cloud(host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CloudGuest:
    """On a host where cloud-hypervisor runs VMs."""
    host.have_cloud_hypervisor()
    (tmp_path / "CLOUDHV.fd").touch()
    monkeypatch.setattr(cloud_hypervisor, "find_firmware", lambda wanted, arch: tmp_path / "CLOUDHV.fd")
    return CloudGuest(host, monkeypatch)


class CloudGuest:
    """cloud-hypervisor as far as its socket and its events show it."""

    def __init__(self, host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = host
        self.asked: list[str] = []
        self.refused: dict[str, str] = {}
        self.power_button: Callable[[], object] = self.power_off
        self.before: Callable[[str], None] = lambda endpoint: None
        monkeypatch.setattr(Http, "send", lambda request: self._send(request))
        host.launched = lambda: self.says(("vmm", "starting"))

    def says(self, *events: tuple[str, str]) -> None:
        (file,) = (word[5:] for word in self.host.started[-1].argv if word.endswith(".events.json"))
        with Path(file).open("a") as stream:
            for source, event in events:
                stream.write(json.dumps({"source": source, "event": event, "properties": None}, indent=2) + "\n\n")

    def power_off(self) -> None:
        self.says(("vm", "shutdown"), ("vm", "deleted"), ("vmm", "shutdown"))
        self.host.die()

    def _send(self, request: Http) -> dict[str, Any]:
        self.asked.append(request.endpoint)
        self.before(request.endpoint)
        if not self.host.alive:
            raise HostError("nobody listens")
        if request.endpoint in self.refused:
            raise HostError(self.refused[request.endpoint])
        events = {"vm.boot": ("vm", "booted"), "vm.pause": ("vm", "paused"), "vm.resume": ("vm", "resumed")}
        if request.endpoint in events:
            self.says(events[request.endpoint])
        if request.endpoint == "vm.power-button":
            self.power_button()
        return {}


@pytest.fixture
def root(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who calls is root, where no systemd runs; the VMMs' user has what it needs."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    host.users.add("virshle-vmm")


@pytest.fixture
def systemd(root: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And systemd does."""
    monkeypatch.setattr("virshle.vmm.systemd._BOOTED", tmp_path)


@pytest.fixture
def web(node: Node, host: FakeHost) -> Entry:
    """Created and stopped."""
    create(node, Order("t", "web"))
    host.calls.clear()
    return node.store.find("web")


@pytest.fixture
def images(layout: Layout, host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """With images `flake`, `file` (a raw file) and what is built in; nix is faked by `nix`."""
    (tmp_path / "file.raw").write_bytes(b"\0" * 512)
    layout.paths.config.write_text(
        f'[[image]]\nname = "flake"\nnix = ".#x"\n[[image]]\nname = "file"\npath = "{tmp_path / "file.raw"}"\n'
    )
    monkeypatch.setattr("virshle.service.image.find_nix", lambda _: NixHost("nix", (2, 18), "/nix/store"))
    return Node(layout.paths)


class FakeNix(list[Command]):
    """Builds a store path with one disk.raw; holds what was built. The flake is what `revision` says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.revision = "0123456789abcdef0123"
        self.asked: list[tuple[str, ...]] = []
        """Of what would be built, and which flake that is."""
        self.build("store-path")

    def build(self, name: str) -> None:
        """What is built from now on."""
        self.store = self.folder / name
        self.store.mkdir()
        (self.store / "disk.raw").write_bytes(b"\0" * 1024)

    def follow(self, command: Command, on_line: object, **_: object) -> Result:
        return Result(command, 0, self._do(command), "", 0.1)

    def _do(self, command: Command) -> str:
        argv = command.argv
        if "metadata" in argv:
            self.asked.append(argv)
            url = f"git+file://{argv[-1]}"
            locked = {"type": "git", "rev": self.revision, "narHash": "sha256-x"}
            return json.dumps({"originalUrl": url, "url": f"{url}?rev={self.revision}", "locked": locked})
        if "--dry-run" in argv:
            self.asked.append(argv)
            return json.dumps([{"outputs": {"out": str(self.store)}}])
        self.append(command)
        out = Path(argv[argv.index("--out-link") + 1])
        out.unlink(missing_ok=True)
        out.symlink_to(self.store)
        return ""


@pytest.fixture
def nix(tmp_path: Path, host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> FakeNix:
    fake = FakeNix(tmp_path)
    host.have("nix-store")
    host.answers["nix-store"] = "/nix/store/x.drv\n"
    monkeypatch.setattr("virshle.exec.follow", fake.follow)
    return fake
