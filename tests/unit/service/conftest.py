"""A node on a faked host, with a template `t` whose disk is a file, and a QEMU that answers while it lives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fakehost import FakeHost
from virshle.errors import HostError, TimedOutError
from virshle.rpc import Qmp
from virshle.service.node import Node
from virshle.store import Layout


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
            return {"status": self.status}

        monkeypatch.setattr(Qmp, "send", send)
