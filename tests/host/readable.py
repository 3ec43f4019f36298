"""What another user may read."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

OTHER = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--")
READ = """
import os, socket, sys
for path in sys.stdin.read().split("\\0"):
    try:
        if os.path.isdir(path):
            os.listdir(path)
        elif path.endswith((".sock", "vsock", "vsock_9000")):
            socket.socket(socket.AF_UNIX).connect(path)
        else:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        print(path)
    except OSError:
        pass
"""
"""Python, which prints the paths of its stdin, parted by NUL, that it can read, list or connect to."""


def readable(paths: Iterable[Path]) -> set[str]:
    """Of these, what another user can read, list or connect to."""
    # Not the interpreter of a folder that user may not enter.
    python = shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin") or sys.executable
    given = "\0".join(map(str, paths))
    done = subprocess.run([*OTHER, python, "-c", READ], input=given, text=True, capture_output=True, check=True)
    return set(done.stdout.splitlines())
