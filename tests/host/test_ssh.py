"""Into guests with the real ssh, whatever its user has told it to do elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import pytest

from tests.host.host import LONG, Host, V

SYSTEM = Path("/etc/ssh/ssh_config")
HOSTILE = """
Host *
    {}
"""
LED_ASTRAY = [
    "ControlMaster auto\n    ControlPath {folder}/cm-%r\n    ControlPersist 60",
    "RemoteCommand echo elsewhere\n    RequestTTY yes",
    "ProxyJump nowhere.invalid",
    "User nobody\n    Port 1\n    HostName nowhere.invalid\n    IdentitiesOnly yes\n    IdentityFile /nowhere",
    "PreferredAuthentications password\n    PasswordAuthentication no\n    BatchMode yes",
    "KnownHostsCommand /bin/false\n    VerifyHostKeyDNS yes\n    HostKeyAlgorithms ssh-rsa\n    Ciphers 3des-cbc",
    "NoSuchOptionOfSsh yes",
]


def v_with_config(host: Host, config: str, *words: str) -> subprocess.CompletedProcess[str]:
    """`v` where that is the system's configuration of ssh and the user's."""
    file = host.folder / "ssh_config"
    file.write_text(HOSTILE.format(config.format(folder=host.folder)))
    file.chmod(0o600)
    own = Path.home() / ".ssh" / "config"
    mounts = [f'mount --bind "$0" {path.resolve()}' for path in (SYSTEM, own) if path.is_file()]
    # ~/.ssh is of the passwd entry, not of HOME (ssh(1), FILES), so it must be that of this machine.
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-Um", "--map-current-user", "--keep-caps"]
    argv = [*unshare, "sh", "-c", f'{" && ".join(mounts)} && exec "$@"', str(file), str(V), *words]
    return subprocess.run(argv, env=host.environment(), text=True, capture_output=True, timeout=LONG, check=False)


@pytest.mark.skipif(not SYSTEM.is_file(), reason="ssh has no configuration of the system here to be replaced")
def test_no_configuration_of_ssh_leads_into_another_machine(host: Host) -> None:
    host.v("create", "-t", "tiny", "a", "--start", "--wait")
    host.v("create", "-t", "tiny", "b", "--start", "--wait")
    for config in LED_ASTRAY:
        for name in ("a", "b", "a"):
            done = v_with_config(host, config, "ssh", name, "hostname")
            assert (done.returncode, done.stdout, done.stderr) == (0, f"{name}\n", ""), config
    # Nor do options of the caller's.
    shared = ("ControlMaster=auto", f"ControlPath={host.folder}/cm-%r@%h", "ControlPersist=60")
    for given in (shared, ("ProxyJump=nowhere.invalid",), ("ProxyCommand=false",)):
        for name in ("a", "b"):
            options = [word for one in given for word in ("-o", one)]
            assert host.v("ssh", *options, name, "hostname").stdout == f"{name}\n", given
    file = host.folder / "it is"
    file.write_text("mine\n")
    words = ("--in", str(file), "--out", f"back:{host.folder}/back", "--", "cp 'it is' back; hostname")
    for config in LED_ASTRAY[:2]:
        (host.folder / "back").unlink(missing_ok=True)
        done = v_with_config(host, config, "run", "-t", "tiny", *words)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() not in ("a", "b", "elsewhere")
        assert (host.folder / "back").read_text() == "mine\n"
    assert host.v("ssh", "a", "ls /root").stdout == ""
    host.v("delete", "--force", "a")
    host.v("delete", "--force", "b")


@pytest.fixture
def agent(bare: Host) -> Iterator[None]:
    """With more keys than any server lets one try."""
    path = bare.folder / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    bare.env["SSH_AUTH_SOCK"] = str(path)
    for number in range(12):
        key = bare.folder / f"key{number}"
        subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", str(key)], check=True)
        subprocess.run(["ssh-add", "-q", str(key)], check=True, env=bare.environment())
    yield
    agent.terminate()
    agent.wait()


def test_however_many_keys_an_agent_has(host: Host, agent: None) -> None:
    host.v("create", "-t", "tiny", "web", "--start", "--wait")
    (file,) = host.state.glob("vm/*/vm.json")
    vm = json.loads(file.read_text())
    for ready in ("guest", "ssh"):
        file.write_text(json.dumps(vm | {"ready": ready}))
        assert host.v("ssh", "web", "hostname").stdout == "web\n", ready
    # One that is asked to lend them does.
    assert len(host.v("ssh", "-A", "web", "ls $(dirname $SSH_AUTH_SOCK)").stdout.split()) == 1
    host.v("delete", "--force", "web")


ODD = "st%d x${HOME}$(id)'\"\\"


@pytest.fixture
def odd(tiny: Path) -> Iterator[Host]:
    """A host whose folders are nothing but odd characters."""
    folder = Path(tempfile.mkdtemp(prefix="vt-", dir="/tmp"))
    folder.chmod(0o711)
    host = Host(folder / ODD)
    target = host.state / "image" / "tiny"
    target.mkdir(parents=True)
    for name in ("result", "image.json"):
        shutil.copy(tiny / name, target / name, follow_symlinks=False)
    yield host
    for row in host.ls():
        host.v("delete", "--force", row["name"])
    shutil.rmtree(folder)


def test_odd_folders_are_only_folders(odd: Host) -> None:
    odd.v("create", "-t", "tiny", "web", "--start", "--wait")
    assert odd.v("ssh", "web", "hostname").stdout == "web\n"
    (known,) = odd.state.glob("vm/*/known_hosts")
    assert known.read_text()
    # The same by a vsock such as cloud-hypervisor's, which is QEMU's port here; tests/box has the real one.
    (file,) = odd.state.glob("vm/*/launch.json")
    launch = json.loads(file.read_text())
    (folder,) = odd.run.glob("vm/*")
    file.write_text(json.dumps(launch | {"hypervisor": "cloud-hypervisor", "cid": 3}))
    with vsock(folder / "vsock", launch["ssh_port"]):
        shown = odd.v("ssh", "web", "-vvv", "hostname")
        assert shown.stdout == "web\n"
        assert "ProxyUseFdpass=yes" in shown.stderr
        line = next(line for line in shown.stderr.splitlines() if line.startswith("+ env SHELL=/bin/sh"))
        pasted = subprocess.run(["bash", "-c", line[2:]], capture_output=True, text=True, check=True, timeout=LONG)
        assert pasted.stdout == "web\n"
        # Whatever shell the user has.
        odd.env["SHELL"] = "/usr/sbin/nologin"
        assert odd.v("ssh", "web", "hostname").stdout == "web\n"
    file.write_text(json.dumps(launch))


@contextmanager
def vsock(path: Path, port: int) -> Iterator[None]:
    """Multiplexed as cloud-hypervisor does it (docs/vsock.md): each connection goes to that port."""

    def copy(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    opened: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                opened.append(client)
                line = b""
                while not line.endswith(b"\n"):
                    line += client.recv(1)
                assert line == b"CONNECT 22\n"
                client.sendall(b"OK 1\n")
                server = socket.create_connection(("127.0.0.1", port))
                opened.append(server)
                for pair in ((client, server), (server, client)):
                    Thread(target=copy, args=pair, daemon=True).start()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(LONG)
        for connection in opened:
            connection.close()


def on_terminal(host: Host, *words: str) -> subprocess.CompletedProcess[str]:
    argv = ["script", "-qec", subprocess.list2cmdline([str(V), *words]), "/dev/null"]
    return subprocess.run(
        argv,
        env=host.environment() | {"SHELL": "/bin/sh"},
        text=True,
        capture_output=True,
        timeout=LONG,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_a_command_has_a_terminal_where_that_is_asked_for(host: Host) -> None:
    host.v("create", "-t", "tiny", "web", "--start", "--wait")
    assert "not a tty" in host.v("ssh", "web", "tty", code=1).stdout
    assert "/dev/pts/" in on_terminal(host, "ssh", "-t", "web", "tty").stdout
    assert "not a tty" in on_terminal(host, "ssh", "web", "tty").stdout
    assert host.v("ssh", "web", "--", "hostname").stdout == "web\n"
    assert host.v("ssh", "web", "ls", "-d", "/").stdout == "/\n"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # In the background once it forwards (ssh(1), -f).
    argv = [str(V), "ssh", "-f", "-L", f"127.0.0.1:{port}:127.0.0.1:22", "web", "sleep 30"]
    subprocess.run(argv, env=host.environment(), check=True, timeout=LONG, stdout=subprocess.DEVNULL)
    with socket.create_connection(("127.0.0.1", port), LONG) as forwarded:
        assert forwarded.recv(4) == b"SSH-"
    host.v("delete", "--force", "web")


def test_a_command_of_v_run_has_one_where_its_caller_has(host: Host) -> None:
    done = on_terminal(host, "run", "-t", "tiny", "--", "tty; exit 7")
    assert "/dev/pts/" in done.stdout
    assert done.returncode == 7


def test_a_paused_guest_is_told_of_and_goes_on_with_the_right_time(host: Host) -> None:
    host.v("create", "-t", "tiny", "web", "--start", "--wait")
    for resumed, said in (
        (("start", "web", "--wait"), "resumed web, which was paused"),
        (("resume", "web"), "resumed"),
    ):
        # Further behind than it would be by the pause alone.
        host.v("ssh", "web", "date -s @1000000000")
        host.v("pause", "web")
        refused = host.v("ssh", "web", "true", code=5)
        assert "web is paused" in refused.stderr
        assert "v resume web" in refused.stderr
        told = host.v(*resumed).stderr
        assert said in told
        assert "could not be set" not in told
        assert int(host.v("ssh", "web", "date +%s").stdout) > 1700000000
    # One that was only just started misses the first press of its button, as it boots.
    host.v("stop", "web")
    host.v("start", "web")
    assert "stopped web gracefully" in host.v("stop", "web", "--timeout", "120").stderr
    host.check()
