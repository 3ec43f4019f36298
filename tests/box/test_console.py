"""`v console` on each VMM: a real terminal, for several viewers, whom none of them can hold up."""

from __future__ import annotations

import os
import select
import subprocess
import time
from types import TracebackType

from tests.box.box import LONG, Box, Web

DETACH = b"\x1d"


class Viewer:
    """`v console web` on a terminal in the box."""

    def __init__(self, box: Box) -> None:
        self.process: subprocess.Popen[bytes] = box.spawn("stty rows 31 cols 97; exec v console web", tty=True)
        self.seen = b""
        self.sees(b"attached to web")

    def __enter__(self) -> Viewer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def sees(self, text: bytes) -> None:
        """Waits until that was shown, after what was waited for before."""
        assert self.process.stdout
        end = time.monotonic() + LONG
        while text not in self.seen:
            left = end - time.monotonic()
            assert left > 0, f"{text!r} did not come; last seen: {self.seen[-500:]!r}"
            if select.select([self.process.stdout], [], [], min(left, 1))[0]:
                block = os.read(self.process.stdout.fileno(), 4096)
                assert block, f"it ended before {text!r}: {self.seen[-500:]!r}"
                self.seen += block
        self.seen = self.seen.partition(text)[2]

    def types(self, text: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def leaves(self) -> None:
        self.types(DETACH)
        self.sees(b"detached from web")
        assert self.process.wait(LONG) == 0


def test_a_terminal_for_several_viewers(web: Web) -> None:
    box = web.ready()
    with Viewer(box) as first:
        first.types(b"\necho fir''st $((6 * 7))\n")
        first.sees(b"first 42")
        # Said by a process of its own: what begins is not deaf to it for a moment, as it is in a shell's fork.
        first.types(b"sh -c 'echo sle\"\"eps; exec sleep 1000'\n")
        first.sees(b"sleeps")
        first.types(b"\x03")
        first.types(b"echo awa''ke\n")
        first.sees(b"awake")
        if web.hypervisor == "cloud-hypervisor":
            first.types(b"stty size\n")
            first.sees(b"31 97")
        with Viewer(box) as second:
            # What was said before he came, from the log.
            second.sees(b"first 42")
            second.types(b"echo sec''ond\n")
            second.sees(b"second")
            first.sees(b"second")
            # Killed and stopped viewers are in nobody's way, nor in the guest's.
            first.process.kill()
            box.run("pkill -STOP -o -f '[v] console web'")
            with Viewer(box) as third:
                third.types(b"seq 1 3000; echo thi''rd\n")
                third.sees(b"third")
                box.run("pkill -KILL -o -f '[v] console web'")
                third.leaves()
    with Viewer(box) as again:
        again.sees(b"third")
        box.v("stop", "web", "--force", "--timeout", "0")
        again.sees(b"web has stopped")
        assert again.process.wait(LONG) == 0
    refused = box.run("script --quiet --return --command 'v console web' /dev/null", code=5)
    assert "web is stopped" in refused.stdout
