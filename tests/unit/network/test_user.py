from __future__ import annotations

import socket
from uuid import UUID

import pytest

from tests.unit.support import uuid_of
from virshle.errors import ConflictError
from virshle.network import choose_port, user


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    ports: set[int] = set()
    monkeypatch.setattr(user, "_free", lambda port: port not in ports)
    return ports


def test_a_vm_has_the_same_port_each_time(taken: set[int]) -> None:
    assert choose_port(uuid_of("web")) == choose_port(uuid_of("web"))


def test_another_has_another(taken: set[int]) -> None:
    assert len({choose_port(uuid_of(f"vm-{n}")) for n in range(20)}) >= 19


@pytest.mark.parametrize("uuid", [UUID(int=0), UUID(int=2**128 - 1), uuid_of("web"), UUID(int=9999), UUID(int=9998)])
def test_no_port_is_privileged_or_one_that_connections_take(uuid: UUID, taken: set[int]) -> None:
    for _ in range(user.TRIES):
        port = choose_port(uuid)
        assert 1024 < port < 32768
        assert port not in taken
        taken.add(port)


def test_where_all_are_taken_the_tried_are_told(taken: set[int]) -> None:
    tried = []
    for _ in range(user.TRIES):
        tried.append(choose_port(uuid_of("web")))
        taken.add(tried[-1])
    with pytest.raises(ConflictError) as caught:
        choose_port(uuid_of("web"))
    assert all(str(port) in caught.value.message for port in tried)
    assert "ss -ltnp" in caught.value.hint


def test_a_port_that_is_listened_on_is_not_free() -> None:
    with socket.socket(socket.AF_INET) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert not user._free(listener.getsockname()[1])
    with socket.socket(socket.AF_INET) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert user._free(port)
