"""A VM's unit is stopped, as at the host's shutdown: the guest powers off, whatever is the matter with the host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.box.box import ON_CLOUD_HYPERVISOR, Box, Web

UNIT = "virshle-vm-web"
DROP_IN = f"/run/systemd/system/{UNIT}.service.d/patience.conf"
SPEAKERS = ("socat", "python3", "perl")
OFF = "Going down for poweroff"


@pytest.fixture
def patient(the_box: Box) -> Iterator[None]:
    """An emulated guest may take longer to power off than a unit is given."""
    the_box.write(DROP_IN, "[Service]\nTimeoutStopSec=900\n")
    yield
    the_box.run(f"rm -r {DROP_IN.rpartition('/')[0]}; systemctl daemon-reload")


@contextmanager
def without(box: Box, *programs: str) -> Iterator[None]:
    names = " -o ".join(f"-name '{program}*'" for program in programs)
    box.run(f"mkdir -p /root/away && find /usr/bin -maxdepth 1 \\( {names} \\) -exec mv -t /root/away {{}} +")
    try:
        yield
    finally:
        box.run("mv -t /usr/bin /root/away/*")


@contextmanager
def moved(box: Box, folder: str) -> Iterator[None]:
    box.run(f"mv {folder} {folder}.away")
    try:
        yield
    finally:
        # systemd may have made an empty one in its place.
        box.run(
            f"find {folder} -xdev -depth -type d -empty -delete 2>/dev/null; mv -T {folder}.away {folder}", code=None
        )


def offs(box: Box, folder: str) -> int:
    """How often its guest has powered off."""
    return int(box.run(f"grep -c '{OFF}' {folder}/log/console.log", code=None).stdout or 0)


def noted(box: Box) -> None:
    """From now on the journal is wanted; and what the drop-in says holds."""
    box.run("systemctl daemon-reload; journalctl -n 0 --show-cursor | sed -n 's/^-- cursor: //p' >/root/cursor")


def journal(box: Box) -> str:
    return box.run(f'journalctl --no-pager -o cat -u {UNIT} --after-cursor="$(cat /root/cursor)"').stdout


def test_one_that_is_paused_where_little_is_left(web: Web, patient: None) -> None:
    """Its runtime folder was moved, of the programs that press the button one is there, and it feels none as it is."""
    box = web.ready()
    noted(box)
    before = offs(box, web.folder)
    box.v("pause", "web")
    with without(box, "socat", "python3", "curl"), moved(box, "/run/virshle"):
        box.run(f"systemctl stop {UNIT}", timeout=1200)
    assert offs(box, web.folder) == before + 1
    assert box.state() == "stopped"
    assert "NAMESPACE" not in journal(box)


def test_while_nothing_can_press_the_button_nothing_is_cut(web: Web, patient: None) -> None:
    """And its folder was moved, with all that says how it is stopped. A guest that boots still feels it later."""
    box = web.stopped()
    box.v("start", "web")
    noted(box)
    pid = box.info()["run"]["pid"]
    before = offs(box, web.folder)
    away = f"{web.folder}.away"
    with moved(box, web.folder):
        with without(box, *SPEAKERS):
            box.run(f"systemctl stop --no-block {UNIT}")
            box.wait_until(lambda: "perl" in journal(box))
            box.run(f"kill -0 {pid}")
            assert box.services()[f"{UNIT}.service"] == "deactivating"
        box.wait_until(f"[ $(grep -c '{OFF}' {away}/log/console.log) -gt {before} ]", timeout=900)
        box.wait_until(f"! kill -0 {pid}")
    assert box.state() == "stopped"


@ON_CLOUD_HYPERVISOR
@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_its_networks_process_ends_by_itself(end: str, box: Box, hypervisor: str, patient: None) -> None:
    box.configure(hypervisor)
    box.v("create", "-t", "tiny", "web")
    box.v("start", "web")
    noted(box)
    if end == "stopped":
        box.run(f"systemctl stop {UNIT}", timeout=1200)
    else:
        box.run(f"kill -KILL {box.info()['run']['pid']}")
    box.wait_until(lambda: "passt" in journal(box))
    killed = [line for line in journal(box).splitlines() if "Killing process" in line]
    assert killed
    assert all("passt" in line and "signal SIGTERM" in line for line in killed)
    box.wait_until("! pgrep passt")
