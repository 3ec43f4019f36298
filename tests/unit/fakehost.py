"""A host whose commands are done in Python, on real files: plans run whole, and fail where a test says so."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import pytest

from tests.unit.support import Held, record_of
from virshle.exec import Command
from virshle.exec import process as launcher
from virshle.store import Layout
from virshle.store.layout import process_record

QEMU = "qemu-system-x86_64"
PROGRAMS = (QEMU, "qemu-system-aarch64", "ssh", "ssh-keygen", "mkfs.vfat", "mcopy", "flock", "setsid", "socat")


@dataclass
class _Ended:
    """What `subprocess.Popen` would have given."""

    returncode: int
    stdout: str = ""
    stderr: str = ""
    pid: int = -1

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        return self.stdout, self.stderr


@dataclass
class FakeHost:
    calls: list[tuple[str, ...]] = field(default_factory=list)
    locks: list[tuple[int, ...]] = field(default_factory=list)
    """Handed to each call."""
    alive: list[Held] = field(default_factory=list)
    """Records that VM processes hold; all of them have this test's pid."""
    before: Callable[[tuple[str, ...]], None] = lambda argv: None
    """May raise, or act, before a command is done."""
    answers: dict[str, str] = field(default_factory=dict)
    """What a program prints."""
    launched: Callable[[Path], None] = lambda run: None
    """Is given the runtime folder of a VM whose process was launched."""

    @classmethod
    def install(cls, monkeypatch: pytest.MonkeyPatch, programs: Path) -> FakeHost:
        host = cls()
        host.answers |= {"stat": "ext2/ext3\n", QEMU: "QEMU emulator version 7.2.22 (Debian)\n"}
        host.answers["qemu-system-aarch64"] = host.answers[QEMU]
        programs.mkdir()
        for name in PROGRAMS:
            (programs / name).write_text("")
            (programs / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
        monkeypatch.setattr(importlib.import_module("virshle.exec.run"), "_open", host.open)
        return host

    def open(self, command: Command, locks: tuple[int, ...]) -> _Ended:
        argv = command.argv
        self.calls.append(argv)
        self.locks.append(locks)
        self.before(argv)
        program = Path(argv[0]).name
        if program in self.answers:
            return _Ended(0, self.answers[program])
        try:
            getattr(self, "_" + program.replace("-", "_").replace(".", "_"))(argv[1:])
        except BlockingIOError as error:
            return _Ended(75, stderr=f"it runs already: {error.strerror}")
        except OSError as error:
            return _Ended(1, stderr=f"{program}: {error.strerror}")
        return _Ended(0)

    @property
    def launches(self) -> list[tuple[str, ...]]:
        return [argv for argv in self.calls if launcher._LAUNCHER in argv]

    @property
    def kills(self) -> list[tuple[str, ...]]:
        return [argv for argv in self.calls if any("kill -KILL" in word for word in argv)]

    def ran(self, *words: str) -> bool:
        """Whether a command with all these words was run."""
        return any(set(words) <= set(argv) for argv in self.calls)

    def run_vm(self, layout: Layout, uuid: UUID) -> Path:
        """As if this test were the VM's process; the runtime folder."""
        run = layout.run(uuid)
        run.mkdir(parents=True, exist_ok=True)
        self.alive.append(Held(process_record(layout.vm(uuid))))
        return run

    def die(self) -> None:
        """The VM's process ends by itself."""
        while self.alive:
            self.alive.pop().end()

    def _mkdir(self, words: tuple[str, ...]) -> None:
        mode = int(words[words.index("-m") + 1], 8) if "-m" in words else 0o777
        for word in words:
            if word.startswith("/"):
                Path(word).mkdir(parents=True, exist_ok=True, mode=mode)

    def _mkfifo(self, words: tuple[str, ...]) -> None:
        os.mkfifo(words[-1], 0o600)

    def _ln(self, words: tuple[str, ...]) -> None:
        Path(words[-1]).symlink_to(words[-2])

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
        link, target = Path(words[0]), words[words.index("-lname") + 1]
        if link.is_symlink() and str(link.readlink()) == target:
            link.unlink()

    def _cp(self, words: tuple[str, ...]) -> None:
        *sources, target = (Path(word) for word in words if word.startswith("/"))
        for source in sources:
            shutil.copyfile(source, target / source.name if target.is_dir() else target)

    def _truncate(self, words: tuple[str, ...]) -> None:
        with Path(words[-1]).open("ab") as file:
            file.truncate(int(words[words.index("-s") + 1]))

    def _ssh_keygen(self, words: tuple[str, ...]) -> None:
        Path(words[-1]).write_text("private")
        Path(words[-1] + ".pub").write_text("ssh-ed25519 AAAAvirshle virshle\n")

    def _mkfs_vfat(self, words: tuple[str, ...]) -> None:
        Path(words[-2]).write_text("vfat")

    def _mcopy(self, words: tuple[str, ...]) -> None:
        for word in words:
            if word.startswith("/") and not Path(word).exists():
                raise FileNotFoundError(2, "No such file or directory", word)

    def _sync(self, words: tuple[str, ...]) -> None:
        for word in words:
            if word.startswith("/") and not Path(word).exists():
                raise FileNotFoundError(2, "No such file or directory", word)

    def _sh(self, words: tuple[str, ...]) -> None:
        """A launch, its undo, or a kill."""
        _, script, _, *given = words
        if script == launcher._LAUNCHER:
            self._launch(*given)
        elif script == launcher.kill(1).argv[2]:
            assert given == [str(os.getpid())]
            self.die()
        else:
            assert script == launcher.kill_launched(Path(), "").argv[2]
            record, token = given
            if Path(record).read_text().split()[-1:] == [token]:
                self.die()

    def _launch(self, record: str, token: str, sockets: str, *_: str) -> None:
        held = Held(Path(record), record_of(os.getpid(), token))
        for path in [*Path(sockets).glob("*.sock"), Path(sockets) / "ready"]:
            path.unlink(missing_ok=True)
        self.alive.append(held)
        self.launched(Path(sockets))
