"""`v`, imported once and forked for each command, as its start takes most of the time of a test that runs it often.

A request is a line of JSON, and so is its answer:
{"words": ["ls"], "stdin": "", "fault": ["kill", "after", 3]}
{"returncode": -9, "stdout": "", "stderr": "", "steps": []}
"""

import importlib
import json
import os
import pkgutil
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import virshle
from tests.warm.driver import MADE, play


def run(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    (folder / "stdin").write_text(request["stdin"])
    pid = os.fork()
    if pid == 0:
        child(request, folder)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    steps = folder / "steps"
    told = steps.read_text().splitlines() if steps.exists() else []
    return {
        "returncode": code,
        "stdout": (folder / "stdout").read_text(),
        "stderr": (folder / "stderr").read_text(),
        "steps": [line for line in told if line != MADE],
        "made": MADE in told,
    }


def child(request: dict[str, Any], folder: Path) -> None:
    code: Any = 70
    try:
        os.dup2(os.open(folder / "stdin", os.O_RDONLY), 0)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        action, moment, number = request["fault"]
        play(action, moment, number, folder / "steps", request["words"])
    except SystemExit as done:
        code = done.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


for module in pkgutil.walk_packages(virshle.__path__, "virshle."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
for line in sys.stdin:
    with tempfile.TemporaryDirectory() as name:
        answer = run(json.loads(line), Path(name))
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
