"""An ordinary user with the packages installed needs no root."""

from __future__ import annotations

import pytest

from tests.host.nobody import nobody

pytestmark = pytest.mark.heart


def test_from_nothing_to_a_shell() -> None:
    with nobody() as user:
        created = user.v("create", "-t", "tiny", "web", "--start", "--wait", "--timeout", "300")
        assert created.stdout == "web\n"
        assert user.v("ssh", "web", "id", "-un").stdout == "root\n"
        assert (user.state / "vm").is_dir()
        user.v("stop", "web")
        user.v("delete", "web")
        # What may not be read or written is told, and nothing is left.
        secret = user.home / "secret.raw"
        secret.write_bytes(bytes(4096))
        secret.chmod(0o600)
        config = user.home / ".config/virshle/config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(f'[[template.vm]]\nname = "x"\n[[template.vm.disk]]\nname = "os"\npath = "{secret}"\n')
        assert "cannot be read" in user.v("create", "-t", "x", code=3).stderr
        user.env["VIRSHLE_STATE_DIR"] = "/var/lib/not-ours"
        assert "VIRSHLE_STATE_DIR" in user.v("create", "-t", "tiny", code=6).stderr
