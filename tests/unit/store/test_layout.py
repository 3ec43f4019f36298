from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.support import uuid_of
from virshle.config.paths import LONGEST_SOCKET, Paths
from virshle.errors import ConfigError
from virshle.store import Layout
from virshle.store.layout import link_target


def test_everything_of_a_vm_lies_under_its_uuid(paths: Paths) -> None:
    layout, uuid = Layout(paths), uuid_of("web")
    assert layout.vm(uuid) == paths.state / "vm" / str(uuid)
    assert layout.staged(uuid) == paths.state / "vm" / f".new-{uuid}"
    assert layout.leaving(uuid) == paths.state / "vm" / f".del-{uuid}"
    assert (layout.name("web").parent / link_target(uuid)).resolve() == layout.vm(uuid)
    assert (layout.id(7).parent / link_target(uuid)).resolve() == layout.vm(uuid)


@pytest.mark.parametrize(("spare", "fits"), [(0, True), (-1, False)])
def test_a_runtime_folder_is_refused_where_a_sockets_path_would_not_fit(spare: int, fits: bool, paths: Paths) -> None:
    fixed = len(f"/vm/{uuid_of('web').hex[:12]}/{LONGEST_SOCKET}")
    layout = Layout(replace(paths, run=Path("/" + "x" * (107 - fixed - 1 - spare))))
    if fits:
        assert len(bytes(layout.run(uuid_of("web")) / LONGEST_SOCKET)) == 107
        layout.check_sockets()
        return
    with pytest.raises(ConfigError, match="too long for sockets") as caught:
        layout.check_sockets()
    assert "VIRSHLE_RUN_DIR" in caught.value.hint


def test_two_vms_do_not_share_a_runtime_folder(paths: Paths) -> None:
    layout = Layout(paths)
    assert len({layout.run(uuid_of(f"vm-{n}")) for n in range(500)}) == 500
