"""What Nix of several versions says of common troubles, and the line that mends each."""

from __future__ import annotations

import pytest

from tests.unit.support import FakeProgress
from virshle.nix import NixLog
from virshle.nix.trouble import hint_for


@pytest.mark.parametrize(
    ("said", "part"),
    [
        (
            "error: a 'x86_64-linux' with features {kvm} is required to build '/nix/store/x.drv', "
            "but I am a 'x86_64-linux' with features {benchmark, big-parallel, nixos-test}",
            "extra-system-features = kvm",
        ),
        (
            "error: Cannot build '/nix/store/x.drv'. Reason: required system or feature not available\n"
            "Required system: 'x86_64-linux' with features {kvm, nixos-test}\n"
            "Current system: 'x86_64-linux' with features {benchmark}",
            "extra-system-features = kvm",
        ),
        (
            "error: Cannot build '/nix/store/x.drv'.\nReason: missing system features\n"
            "Required features: {kvm, nixos-test}\nAvailable features: {benchmark}",
            "extra-system-features = kvm",
        ),
        (
            "error: Cannot build '/nix/store/x.drv'.\nReason: missing system features\n"
            "Required features: {big}\nAvailable features: {kvm}",
            "/etc/nix/machines",
        ),
        (
            "error: a 'aarch64-linux' with features {} is required to build '/nix/store/x.drv', "
            "but I am a 'x86_64-linux' with features {benchmark, kvm}",
            "/etc/nix/machines",
        ),
        ("error: experimental Nix feature 'flakes' is disabled; use '--extra-exp", "nix-command flakes"),
        ("error: writing to file: No space left on device", "nix-collect-garbage"),
        ("error: executing SQLite statement: database or disk is full", "nix-collect-garbage"),
        (
            "error: unable to download 'https://api.github.com/repos/a/b/commits/HEAD': Couldn't resolve host name (6)",
            "proxy",
        ),
        ("error: unable to download 'https://x': Could not resolve hostname (6)", "proxy"),
        ("error: unable to download 'https://api.github.com/repos/a/b': HTTP error 404", "access-tokens"),
        ("error: flake 'path:/f' does not provide attribute 'packages.x.y', 'y'", "nix flake show"),
        ("error: attribute 'virshleImage' missing", "nixosModules.guest"),
        (
            "error: flake 'git+file:///f' does not provide attribute "
            "'packages.x86_64-linux.nixosConfigurations.w.config.system.build.virshleImage', 'x'",
            "nixosModules.guest",
        ),
        ("error: flake output attribute 'x' is not a derivation or path", "nix flake show"),
        (
            "error: expected flake output attribute 'x.config.system' to be a derivation or path but found a set: { }",
            "nix flake show",
        ),
        ("error: derivation '/nix/store/x.drv' does not have wanted outputs 'out'", "ATTRIBUTE.out"),
        ("error: derivation '/nix/store/x.drv' does not have output 'out'", "ATTRIBUTE.out"),
        ("error: getting status of '/f': No such file or directory", "check the paths"),
        ("error: path '/f' does not contain a 'flake.nix'", "git add"),
        ("error: cannot find flake 'flake:f' in the flake registries", "check the flake reference"),
        (
            "error:\n… while updating the lock file of flake 'path:/f'\n… while updating the flake input 'virshle'\n"
            "error: cannot find flake 'flake:virshle' in the flake registries",
            "write the full reference of the input in flake.nix",
        ),
        ("error: repository path '/f' is not owned by current user", "safe.directory"),
        ("error: hash mismatch in fixed-output derivation '/nix/store/x.drv':", "hash that Nix got"),
        ("error: NAR hash mismatch in input 'path:/f?narHash=sha256-x'", "hash that Nix got"),
        ("error: cannot write modified lock file of flake 'github:a/b' (use '--no-write-lock-file')", "nix flake lock"),
        ("error: cannot connect to socket at '/nix/var/nix/daemon-socket/socket'", "systemctl start"),
        ("error: cannot add path '/nix/store/x' because it lacks a valid signature", "trusted-users"),
    ],
)
def test_a_known_trouble_is_told_with_what_mends_it(said: str, part: str) -> None:
    assert part in hint_for([said])


def test_an_unknown_trouble_is_told_without() -> None:
    assert hint_for(["error: no such flavour"]) == ""


def test_an_error_tells_more_than_a_warning() -> None:
    warning = "warning: ignoring the client-specified setting 'sandbox', because it is a restricted setting"
    assert "trusted-users" in hint_for(["error: odd"], [warning])
    assert "df -h" in hint_for(["error: No space left on device"], [warning])


def test_what_the_builder_said_and_warnings_count_too() -> None:
    log = NixLog(FakeProgress(), "build")
    log.line('@nix {"action":"start","id":1,"level":3,"type":105,"text":"x","fields":["/nix/store/x.drv"]}')
    log.line('@nix {"action":"result","id":1,"type":101,"fields":["dd: No space left on device"]}')
    assert "df -h" in log.hint()
    other = NixLog(FakeProgress(), "build")
    other.line('@nix {"action":"msg","level":1,"msg":"warning: it is a restricted setting"}')
    assert "trusted-users" in other.hint()
    assert other.failure() == []
