"""A host whose commands are done in Python, on real files: plans run whole, and fail where a test says so."""

from __future__ import annotations

import importlib
import os
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import pytest

from tests.unit.support import OWN_KEY, Held, record_of
from virshle.exec import Command
from virshle.exec import process as launcher
from virshle.store import Layout
from virshle.vmm import account, cloud_hypervisor, qemu, systemd
from virshle.vmm.driver import Place

QEMU = "qemu-system-x86_64"
CLOUD_HYPERVISOR = "cloud-hypervisor"
PROGRAMS = (
    *(QEMU, "qemu-system-aarch64", "env", "ssh", "ssh-keygen", "mkfs.vfat", "mcopy", "flock", "setsid", "socat"),
    *("setpriv", "systemd-run", "systemctl", "useradd", "usermod", "cp", "truncate", "find"),
)
"""What is installed, and nothing else that this machine may have."""
NO_KVM = "/dev/kvm is not there"


@dataclass
class _Ended:
    """What `subprocess.Popen` would have given."""

    returncode: int
    stdout: str = ""
    stderr: str = ""
    pid: int = 2**30
    """Of no process."""

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        return self.stdout, self.stderr

    def wait(self) -> int:
        return self.returncode


@dataclass(frozen=True)
class FakeScript:
    """What a vmm.sh says, read as the shell would."""

    record: Path
    token: str
    stale: tuple[Path, ...]
    helpers: tuple[str, ...]
    argv: tuple[str, ...]
    vmm_log: Path
    """To which it says first that a run begins."""

    @classmethod
    def read(cls, path: Path) -> FakeScript:
        lines = [line.strip() for line in path.read_text().splitlines()]
        (stale,) = (shlex.split(line) for line in lines if line.startswith("rm -f -- "))
        (become,) = (shlex.split(line) for line in lines if line.startswith("exec ") and " </dev/null >>" in line)
        values = dict(line.split("=", 1) for line in lines if line.startswith(("record=", "token=")))
        return cls(
            record=Path(*shlex.split(values["record"])),
            token=values["token"],
            stale=tuple(map(Path, stale[3:])),
            helpers=tuple(line[2:].partition(" ) 9>&-")[0] for line in lines if ") 9>&-" in line),
            argv=tuple(become[1 : become.index("</dev/null")]),
            vmm_log=Path(become[-1].removeprefix("2>>")),
        )


@dataclass
class FakeHost:
    calls: list[tuple[str, ...]] = field(default_factory=list)
    locks: list[tuple[int, ...]] = field(default_factory=list)
    """Handed to each call."""
    alive: list[Held] = field(default_factory=list)
    """Records that VM processes hold; all of them have this test's pid."""
    started: list[FakeScript] = field(default_factory=list)
    """Every VMM that ever began."""
    units: set[str] = field(default_factory=set)
    """Of systemd: those that run, and those that failed and were not forgotten."""
    users: set[str] = field(default_factory=set)
    owners: dict[str, str] = field(default_factory=dict)
    """Given by chown."""
    before: Callable[[tuple[str, ...]], None] = lambda argv: None
    """May raise, or act, before a command is done."""
    kvm: str = NO_KVM
    """Why it is not to be had."""
    programs: Path = Path()
    cwd: Path = Path("/")
    """Of the last call."""
    answers: dict[str, str | Callable[[tuple[str, ...]], str]] = field(default_factory=dict)
    """What a program prints, given its arguments say."""
    entered: Callable[[str], int] = lambda command: 0
    """Called by ssh with what the guest is to do: its exit code. The guest does as it is told."""
    launched: Callable[[], None] = lambda: None
    """Called when a VM's process was launched."""

    @classmethod
    def install(cls, monkeypatch: pytest.MonkeyPatch, programs: Path) -> FakeHost:
        """Without KVM, cloud-hypervisor and systemd; an ordinary user's."""
        host = cls()
        host.answers |= {"stat": "ext2/ext3\n", QEMU: "QEMU emulator version 7.2.22 (Debian)\n"}
        host.answers["systemctl"] = ""
        host.answers["qemu-system-aarch64"] = host.answers[QEMU]
        programs.mkdir()
        host.programs = programs
        monkeypatch.setattr(importlib.import_module("virshle.exec.run"), "_path", lambda: str(programs))
        host.have(*PROGRAMS)
        for module in (qemu, cloud_hypervisor):
            monkeypatch.setattr(module, "kvm_problem", lambda *_: host.kvm)
        monkeypatch.setattr(qemu, "VSOCK", programs / "no-vsock")
        monkeypatch.setattr(account, "_uid", lambda user: os.getuid() if user in host.users else None)
        monkeypatch.setattr(account, "_gids", lambda _: set())
        monkeypatch.setattr(account, "_kvm_group", lambda: None)
        monkeypatch.setattr(importlib.import_module("virshle.exec.run"), "_open", host.open)
        return host

    def have(self, *names: str) -> None:
        for name in names:
            (self.programs / name).write_text("")
            (self.programs / name).chmod(0o755)

    def have_cloud_hypervisor(self, version: str = "v53.0.0") -> None:
        """And all that it needs."""
        self.kvm = ""
        self.have(CLOUD_HYPERVISOR, "passt")
        self.answers[CLOUD_HYPERVISOR] = f"{CLOUD_HYPERVISOR} {version}\n"

    def open(self, command: Command, locks: tuple[int, ...]) -> _Ended:
        argv = command.argv
        self.calls.append(argv)
        self.cwd = command.cwd or Path("/")
        self.locks.append(locks)
        self.before(argv)
        program = Path(argv[0]).name
        if program == "ssh" or (program == "env" and "ssh" in argv):
            return _Ended(self.entered(argv[-1]))
        if program in self.answers:
            answer = self.answers[program]
            return _Ended(0, answer if isinstance(answer, str) else answer(argv[1:]))
        try:
            getattr(self, "_" + program.replace("-", "_").replace(".", "_"))(argv[1:])
        except BlockingIOError as error:
            return _Ended(75, stderr=f"it runs already: {error.strerror}")
        except OSError as error:
            return _Ended(1, stderr=f"{program}: {error.strerror}")
        return _Ended(0)

    @property
    def launches(self) -> list[tuple[str, ...]]:
        """By the shell or by systemd."""
        return [argv for argv in self.calls if launcher._LAUNCHER in argv or argv[0] == "systemd-run"]

    @property
    def kills(self) -> list[tuple[str, ...]]:
        return [argv for argv in self.calls if any("kill -KILL" in word for word in argv)]

    def ran(self, *words: str) -> bool:
        """Whether a command with all these words was run."""
        return any(set(words) <= set(argv) for argv in self.calls)

    def run_vm(self, layout: Layout, uuid: UUID, token: str = "token") -> Path:
        """As if this test were the VM's process; the runtime folder."""
        place = Place(layout.vm(uuid), layout.run(uuid))
        place.run.mkdir(parents=True, exist_ok=True)
        self.alive.append(Held(place.record, record_of(os.getpid(), token)))
        return place.run

    def die(self) -> None:
        """The VM's process ends by itself."""
        while self.alive:
            self.alive.pop().end()

    def _mkdir(self, words: tuple[str, ...]) -> None:
        mode = int(words[words.index("-m") + 1], 8) if "-m" in words else 0o777
        for word in words:
            if word.startswith("/"):
                Path(word).mkdir(parents=True, exist_ok=True, mode=mode)

    def _ln(self, words: tuple[str, ...]) -> None:
        if "f" in words[0]:
            Path(words[-1]).unlink(missing_ok=True)
        Path(words[-1]).symlink_to(words[-2])

    def _mkfifo(self, words: tuple[str, ...]) -> None:
        os.mkfifo(words[-1], int(words[words.index("-m") + 1], 8))

    def _rm(self, words: tuple[str, ...]) -> None:
        for word in words:
            if word.startswith("/"):
                path = Path(word)
                if path.is_dir() and not path.is_symlink() and words[0] == "-rf":
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)

    def _mv(self, words: tuple[str, ...]) -> None:
        Path(words[-2]).rename(words[-1])

    def _find(self, words: tuple[str, ...]) -> None:
        if words[1:] == ("-mindepth", "1", "-delete"):
            for path in Path(words[0]).iterdir():
                path.unlink()
            return
        if "-name" in words:
            for path in Path(words[0]).glob(words[words.index("-name") + 1]):
                assert path.is_symlink()
                path.unlink()
            return
        link, target = Path(words[0]), words[words.index("-lname") + 1]
        if link.is_symlink() and str(link.readlink()) == target:
            link.unlink()

    def _cp(self, words: tuple[str, ...]) -> None:
        *sources, target = (Path(word) for word in words if word.startswith("/"))
        for source in sources:
            shutil.copyfile(source, target / source.name if target.is_dir() else target)

    def _truncate(self, words: tuple[str, ...]) -> None:
        if "--no-create" in words and not Path(words[-1]).exists():
            return
        with Path(words[-1]).open("ab") as file:
            file.truncate(int(words[words.index("-s") + 1]))

    def _ssh_keygen(self, words: tuple[str, ...]) -> None:
        Path(words[-1]).write_text("private")
        Path(words[-1] + ".pub").write_text(f"{OWN_KEY}\n")

    def _mkfs_vfat(self, words: tuple[str, ...]) -> None:
        Path(words[-2]).write_text("vfat")

    def _mcopy(self, words: tuple[str, ...]) -> None:
        for word in words:
            if "/" in word and not (self.cwd / word).exists():
                raise FileNotFoundError(2, "No such file or directory", word)

    def _sync(self, words: tuple[str, ...]) -> None:
        for word in words:
            if word.startswith("/") and not Path(word).exists():
                raise FileNotFoundError(2, "No such file or directory", word)

    def _touch(self, words: tuple[str, ...]) -> None:
        Path(words[-1]).touch()

    def _chmod(self, words: tuple[str, ...]) -> None:
        for word in words[words.index("--") + 1 :]:
            Path(word).chmod(int(words[0], 8))

    def _chown(self, words: tuple[str, ...]) -> None:
        options, files = words[: words.index("--")], words[words.index("--") + 1 :]
        assert options[0] == "--no-dereference"
        user = options[1].partition(":")[0]
        if user not in self.users:
            raise OSError(22, f"invalid user: {user}")
        for file in files:
            Path(file).lstat()
            self.owners[file] = user

    def _useradd(self, words: tuple[str, ...]) -> None:
        self.users.add(words[-1])

    def _usermod(self, words: tuple[str, ...]) -> None:
        assert words[-1] in self.users

    def _systemd_run(self, words: tuple[str, ...]) -> None:
        options, command = words[: words.index("--")], words[words.index("--") + 1 :]
        (unit,) = (word.removeprefix("--unit=") for word in options if word.startswith("--unit="))
        if unit in self.units:
            raise OSError(17, f"Unit {unit}.service was already loaded or has a fragment file.")
        self.units.add(unit)
        self._launch(command)

    def _sh(self, words: tuple[str, ...]) -> None:
        """A launch, its undo, a cut of the power, or a unit that is forgotten."""
        _, script, _, *given = words
        if script == launcher._LAUNCHER:
            self._launch((*given, "run"))
        elif script == launcher._CUT:
            pid, record = given
            assert (pid, Path(record).exists()) == (str(os.getpid()), True)
            self.die()
        elif script == systemd._FORGET:
            (unit,) = given
            self.units.discard(unit.removesuffix(".service"))
        else:
            assert script == launcher._KILL
            record, token = given
            if Path(record).read_text().split()[-1:] == [token]:
                self.die()

    def _launch(self, command: Sequence[str]) -> None:
        *prefix, shell, path, verb = command
        assert (Path(shell).name, verb) == ("sh", "run")
        assert not prefix or (prefix[0], prefix[-1]) == ("setpriv", "--")
        assert Path(path).stat().st_mode & 0o111
        script = FakeScript.read(Path(path))
        held = Held(script.record, record_of(os.getpid(), script.token))
        for stale in script.stale:
            stale.unlink(missing_ok=True)
        if script.vmm_log.parent.is_dir():
            with script.vmm_log.open("a") as log:
                log.write(f"{Place.run_began}: now\n")
        self.alive.append(held)
        self.started.append(script)
        self.launched()
