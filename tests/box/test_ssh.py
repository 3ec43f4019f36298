"""`v ssh` by the vsock of a real VMM, where it has no guest to speak with: it ends, and says what to do."""

from __future__ import annotations

from tests.box.box import LONG, ON_CLOUD_HYPERVISOR, Web

ENDS = "timeout 120 "
"""By which one that hangs ends with 124."""


@ON_CLOUD_HYPERVISOR
def test_a_guest_that_does_not_answer(web: Web) -> None:
    box = web.ready()
    assert box.v("ssh", "web", "hostname").stdout == "web\n"
    pid = box.info()["run"]["pid"]
    box.run(f"kill -STOP {pid}")
    try:
        said = box.run(f"{ENDS} v ssh web true", code=255).stderr
    finally:
        box.run(f"kill -CONT {pid}")
    assert "the guest does not answer" in said
    assert "v start VM --wait" in said


@ON_CLOUD_HYPERVISOR
def test_a_port_on_which_nobody_in_the_guest_listens(web: Web) -> None:
    """As that of its ssh server, before it is there."""
    box = web.ready()
    box.v("ssh", "web", "true")
    shown = box.run("v ssh web -vvv true").stderr.splitlines()
    (line,) = (line[2:] for line in shown if line.startswith("+ env SHELL=/bin/sh ssh "))
    said = box.run(f"{ENDS}{line.replace('/vsock 22', '/vsock 4711')}", code=255).stderr
    assert "no process listens on port 4711 of the guest's vsock" in said


@ON_CLOUD_HYPERVISOR
def test_a_runtime_folder_that_is_gone(web: Web) -> None:
    box = web.ready()
    folder = box.info()["run"]["folder"]
    box.run(f"mv {folder} {folder}.away")
    try:
        said = box.run(f"{ENDS} v ssh web true", code=255).stderr
    finally:
        box.run(f"mv {folder}.away {folder}")
    assert f"no connection to the VMM at {folder}/vsock: No such file" in said
    assert "v info VM" in said


@ON_CLOUD_HYPERVISOR
def test_a_paused_guest(web: Web) -> None:
    box = web.ready()
    box.v("pause", "web")
    assert "web is paused" in box.v("ssh", "web", "true", code=5).stderr
    assert "resumed web, which was paused" in box.v("start", "web").stderr
    assert box.v("ssh", "web", "hostname").stdout == "web\n"


@ON_CLOUD_HYPERVISOR
def test_a_vmm_that_is_killed_during_the_session(web: Web) -> None:
    box = web.ready()
    pid = box.info()["run"]["pid"]
    with box.spawn("v ssh web 'echo in; sleep 1000'") as session:
        assert session.stdout is not None
        assert session.stdout.readline() == b"in\n"
        box.run(f"kill -KILL {pid}")
        said = session.stdout.read()
        assert session.wait(LONG) == 255
    assert b"closed" in said
    assert "web is stopped" in box.v("ssh", "web", "true", code=5).stderr
