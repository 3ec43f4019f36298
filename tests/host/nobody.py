"""`v` as another user than root, who has a home of his own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
USER, ANOTHER = "nobody", "daemon"
"""Are on every machine."""
_SECONDS = 900.0


@dataclass
class Nobody:
    name: str
    home: Path
    env: dict[str, str]
    argv: list[str]
    libraries: Path

    def v(
        self, *words: str, code: int | None = 0, root: bool = False, of: Nobody | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs it and checks its exit code (None: any). `root`: as root, who was given that user's folders; `of`: as
        this user, who was given another's."""
        whose = self if root else of
        given = {"VIRSHLE_STATE_DIR": str(whose.state), "VIRSHLE_RUN_DIR": str(whose.run)} if whose else {}
        env = self.env | given
        argv = [*([] if root else become(self.name)), *self.argv, *words]
        done = subprocess.run(argv, env=env, text=True, capture_output=True, timeout=_SECONDS, cwd=self.home)
        assert code is None or done.returncode == code, f"{words} exited with {done.returncode}: {done.stderr}"
        return done

    @property
    def state(self) -> Path:
        return self.home / ".local/state/virshle"

    @property
    def run(self) -> Path:
        return self.state / "run"


def become(name: str) -> list[str]:
    account = pwd.getpwnam(name)
    return ["setpriv", "--reuid", str(account.pw_uid), "--regid", str(account.pw_gid), "--clear-groups"]


@contextmanager
def nobody(name: str = USER, *, beside: Nobody | None = None) -> Iterator[Nobody]:
    """As root, who may become another. `beside`: whose packages it uses too, and whose home it may pass through."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user; run as one, every test is this one")
    python = _python_for_others()
    home = Path("/tmp") / f"vt-home-{os.getpid()}-{name}"
    home.mkdir(mode=0o700)
    account = pwd.getpwnam(name)
    (home / "run").mkdir(mode=0o700)
    for folder in (home, home / "run"):
        os.chown(folder, account.pw_uid, account.pw_gid)
    # The checkout and the packages may lie where another user cannot read.
    libraries = beside.libraries if beside else home / "lib"
    if beside is None:
        shutil.copytree(REPOSITORY / "virshle", libraries / "virshle", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(sysconfig.get_paths()["purelib"], libraries, dirs_exist_ok=True)
    else:
        beside.home.chmod(0o711)
    env = {"HOME": str(home), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(libraries)}
    env["XDG_RUNTIME_DIR"] = str(home / "run")
    env |= {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy") or "CERT" in name}
    try:
        yield Nobody(name, home, env, [python, "-m", "virshle"], libraries)
    finally:
        subprocess.run(["pkill", "-KILL", "-u", name, "-f", f"qemu.*{home}"], check=False)
        subprocess.run(["chmod", "-R", "u+w", str(home)], check=False)
        shutil.rmtree(home)


def _python_for_others() -> str:
    """A Python of this version that another user may run."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for path in (f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"):
        if Path(path).exists():
            return path
    pytest.skip(f"there is no system-wide python{version} for another user")
