"""A VM as a shell script: the plans that create it and start it, as if nothing existed yet."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from virshle import log
from virshle.disk import blank, clone
from virshle.errors import ConflictError
from virshle.exec.process import gone_shell
from virshle.model.vm import Disk, KernelBoot, Vm
from virshle.plan import Run, Step, run, whole
from virshle.service.node import Node
from virshle.service.ready import vsock_of
from virshle.service.ssh import by_port, option, ssh_words
from virshle.service.start import note_run, plan_machine
from virshle.store import Entry, Layout
from virshle.store.change import write_definition
from virshle.store.layout import definition, known_hosts, link_target
from virshle.userdata import key_file, seed_steps
from virshle.vmm.account import account_steps, join_kvm
from virshle.vmm.choose import driver_of
from virshle.vmm.driver import Machine, Place
from virshle.vmm.launch import process_steps
from virshle.vmm.seen import launch_of

_HEAD = """\
#!/bin/bash
# `v script {name}` wrote this for the VM {name} ({uuid}). It makes the parts of the VM that are missing, with its
# disks, and runs the VM on {hypervisor}. It needs no virshle. Parts that exist are not changed. If the VM runs already,
# nothing is done.
{ways}
set -euo pipefail
umask {umask}

for link in {links}; do
	if [ -L "$link" ] && [ "$(readlink -- "$link")" != {target} ]; then
		echo "$link belongs to another VM: $(readlink -- "$link")" >&2
		exit 5
	fi
done
if [ -e {record} ] && ! {gone}; then
	echo {runs}
	exit 0
fi
"""


def script(node: Node, entry: Entry) -> str:
    """Returns the bash script. Raises ConflictError for a broken VM, ConfigError if this host cannot run the VM."""
    vm, place = entry.whole(), node.next_place(entry.uuid)
    # The port of a running VM is in use, but by the VM itself.
    launch = launch_of(place) if node.process(vm.uuid) else None
    machine = plan_machine(vm, place, port=launch.ssh_port if launch else None)
    ways = _ways(machine, key_file(node.layout.keys))
    driver = driver_of(machine.launch, place)
    links = (node.layout.name(vm.name), node.layout.id(vm.id))
    parts = [
        _head(machine, links, ways),
        _part("", _folders(node.layout, vm, place)),
        *(_once(place.folder / disk.file, partial(_disk, disk)) for disk in vm.disks),
        *_boot(machine),
        _part(_absent(definition(place.folder)), [write_definition(place.folder, vm)]),
        *(_part(_unlinked(link), [_link(link, vm)]) for link in links),
        _part("", seed_steps(vm, place.folder, place.seed)),
        *_account(machine.launch.user),
        _part("", driver.prepare(machine, blind=True)),
        _part("", [_forget_run(place)]),
        _part("", process_steps(driver, machine, blind=True)),
        _part("", driver.boot(machine)),
        *(f"echo {shlex.quote(f'{what}: {line}')}\n" for what, line in ways.items()),
        f"echo {shlex.quote(f'{vm.name} runs')}\n",
    ]
    return "\n".join(parts)


def _ways(machine: Machine, key: Path) -> dict[str, str]:
    """What a user does with a running VM, and the command for it."""
    place = machine.place
    ways: dict[str, tuple[str, ...]] = {
        "to see what it says": ("tail", "-f", str(place.console_log)),
        # With `sh`, because the state folder may be mounted noexec (mount(8)).
        "to stop it by its power button": ("sh", str(place.script), "stop"),
    }
    if enter := _enter(machine, key):
        ways = {"to enter it, once it has booted": enter, **ways}
    return {what: shlex.join(words) for what, words in ways.items()}


def _enter(machine: Machine, key: Path) -> tuple[str, ...]:
    """The ssh command, without virshle; empty if ssh has no way in."""
    vm, place, launch = machine.vm, machine.place, machine.launch
    if launch.ssh_port is not None:
        way = by_port(launch.ssh_port)
    elif vsock := vsock_of(launch, place):
        way = [*option("ProxyCommand", vsock.shell().replace("%", "%%"))]
    else:
        return ()
    return ssh_words(vm, way, known_hosts(place.folder), [key])


def _head(machine: Machine, links: Sequence[Path], ways: Mapping[str, str]) -> str:
    vm, place = machine.vm, machine.place
    return _HEAD.format(
        name=vm.name,
        uuid=vm.uuid,
        # Only the owner may read the files. If VMMs run as another user, that user may pass through the folders.
        umask="066" if machine.launch.user else "077",
        hypervisor=machine.launch.hypervisor,
        # The second line of a path with a newline would not be a comment.
        ways="\n".join(f"# {what.capitalize()}: {log.pasteable(line, lines=False)}" for what, line in ways.items()),
        links=shlex.join(map(str, links)),
        target=shlex.quote(link_target(vm.uuid)),
        record=shlex.quote(str(place.record)),
        gone=gone_shell(place.record),
        runs=shlex.quote(f"{vm.name} runs already"),
    )


def _part(test: str, steps: Sequence[Step]) -> str:
    """The steps, which run only if the shell test is true. Without a test they always run."""
    lines = "".join(f"# {log.one_line(step.why)}\n{_line(step)}\n" for step in steps)
    return f"if {test}; then\n{lines}fi\n" if test else lines


def _line(step: Step) -> str:
    """With `set -e` the script ends at any exit code but 0. Some commands have other good exit codes."""
    if not isinstance(step, Run) or step.command.ok == (0,):
        return step.shell()
    return f"{step.shell()} || [[ $? =~ ^({'|'.join(map(str, step.command.ok))})$ ]]"


def _absent(path: Path) -> str:
    return f"[ ! -e {shlex.quote(str(path))} ]"


def _unlinked(link: Path) -> str:
    return f"[ ! -L {shlex.quote(str(link))} ]"


def _account(user: str | None) -> list[str]:
    if user is None:
        return []
    there = f"getent passwd {user} >/dev/null"
    outside = f'getent group kvm >/dev/null && [[ " $(id --groups --name {user}) " != *" kvm "* ]]'
    return [_part(f"! {there}", account_steps(user, blind=True)), _part(outside, [join_kvm(user)])]


def _folders(layout: Layout, vm: Vm, place: Place) -> list[Step]:
    inside = [place.folder / name for name in ("disk", "boot", "log")]
    folders = run("make its folders", "mkdir", "-p", "--", *inside, place.run, layout.names, layout.ids)
    return [folders, note_run(place)]


def _disk(disk: Disk, part: Path) -> list[Step]:
    return blank(part, disk.size) if disk.source is None else clone(Path(disk.source), part, image=0, size=disk.size)


def _once(target: Path, make: Callable[[Path], list[Step]]) -> str:
    """Makes the file under another name and renames it when it is complete: the script only checks if a file exists."""
    part = target.with_name(f".{target.name}.part")
    return _part(_absent(target), [*make(part), *whole(part, target)])


def _boot(machine: Machine) -> list[str]:
    vm, place = machine.vm, machine.place
    if not isinstance(vm.boot, KernelBoot):
        return []
    if vm.origin.store_path is None:
        raise ConflictError(f"v does not know where {vm.name}'s kernel came from", hint="copy it from the VM's folder")
    origin = Path(vm.origin.store_path)
    files = {"kernel": vm.boot.kernel, "initrd": vm.boot.initrd}
    return [_once(place.folder / file, partial(_copy, origin / name)) for name, file in files.items()]


def _copy(source: Path, part: Path) -> list[Step]:
    return [run(f"copy its {source.name}", "cp", "--no-preserve=mode,ownership", "--", source, part)]


def _forget_run(place: Place) -> Step:
    """The script has the same token for each run, so the record of the last run would look like one of the new run: it
    is emptied first. Under the record's lock, in case another process was faster."""
    empty = ("truncate", "-s", "0", "--", place.record)
    return run("note that the last run is over", "flock", "--nonblock", place.record, *empty)


def _link(link: Path, vm: Vm) -> Step:
    return run(f"link it as {link.name}", "ln", "-sT", link_target(vm.uuid), link)
