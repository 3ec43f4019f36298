"""An ordinary user with the packages installed needs no root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
USER = "nobody"


def python_for_others() -> str:
    """A Python of this version that another user may run."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for path in (f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"):
        if Path(path).exists():
            return path
    pytest.skip(f"there is no system-wide python{version} for another user")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user; run as one, every test is this one")
def test_from_nothing_to_a_shell(tmp_path: Path) -> None:
    python = python_for_others()
    home = Path("/tmp") / f"vt-home-{os.getpid()}"
    home.mkdir(mode=0o700)
    account = pwd.getpwnam(USER)
    os.chown(home, account.pw_uid, account.pw_gid)
    # The checkout and the packages may lie where another user cannot read.
    libraries = home / "lib"
    shutil.copytree(REPOSITORY / "virshle", libraries / "virshle", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(sysconfig.get_paths()["purelib"], libraries, dirs_exist_ok=True)
    env = {"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(libraries)}
    env |= {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy") or "CERT" in name}
    become = ["setpriv", "--reuid", str(account.pw_uid), "--regid", str(account.pw_gid), "--clear-groups"]

    def v(*words: str, code: int = 0) -> str:
        argv = [*become, python, "-m", "virshle", *words]
        done = subprocess.run(argv, env=env, text=True, capture_output=True, timeout=900, cwd=home)
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    try:
        assert v("create", "-t", "tiny", "web", "--start", "--wait", "--timeout", "300") == "web\n"
        assert v("ssh", "web", "id", "-un") == "root\n"
        assert (home / ".local/state/virshle/vm").is_dir()
        v("stop", "web")
        v("delete", "web")
        # What may not be read or written is told, and nothing is left.
        secret = home / "secret.raw"
        secret.write_bytes(bytes(4096))
        secret.chmod(0o600)
        config = home / ".config/virshle/config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(f'[[template.vm]]\nname = "x"\n[[template.vm.disk]]\nname = "os"\npath = "{secret}"\n')
        assert "cannot be read" in v("create", "-t", "x", code=3)
        env["VIRSHLE_STATE_DIR"] = "/var/lib/not-ours"
        assert "VIRSHLE_STATE_DIR" in v("create", "-t", "tiny", code=6)
    finally:
        subprocess.run(["pkill", "-KILL", "-u", USER, "qemu"], check=False)
        subprocess.run(["chmod", "-R", "u+w", str(home)], check=False)
        shutil.rmtree(home)
