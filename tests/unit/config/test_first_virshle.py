"""A configuration as the first virshle had it loads; what has no effect yet is said, key by key."""

from __future__ import annotations

import pytest

from virshle.config.load import Config, load
from virshle.config.paths import Paths

SAMPLE = """
[node]
alias = "attic"
private_key = "/etc/virshle/attic.key"
public_key = "/etc/virshle/attic.pub"
passive = true

[[peer]]
alias = "cellar"
url = "ssh://ops@192.0.2.7:22/run/virshle/node.sock"
weight = 3
public_key = "/etc/virshle/cellar.pub"

[dhcp.kea]
url = "http://localhost:5547"
suffix = "lan.example"

[dhcp.fake.pool.main]
subnet = "10.77.0.0/16"
range = ["10.77.5.10", "10.77.5.99"]

[[template.vm]]
name = "m"
vcpu = 2
vram = "4GiB"
uuid = "550e8400-e29b-41d4-a716-446655440000"
[[template.vm.disk]]
name = "os"
path = "/srv/images/nixos.efi.img"
size = "50GiB"
[[template.vm.disk]]
name = "tools"
path = "/srv/images/tools.img"
readonly = true
[[template.vm.net]]
name = "main"
[template.vm.net.type.tap]
mac = "02:11:22:33:44:55"
ip = "10.77.5.12/16"
[[template.vm.net]]
name = "side"
[template.vm.net.type.macvtap]
[[template.vm.net]]
name = "fast"
[template.vm.net.type.vhost]
[template.vm.extra]
inner = { any = ["thing"] }
autostart = true
"""


@pytest.fixture
def config(paths: Paths) -> Config:
    paths.config.write_text(SAMPLE)
    return load(paths)


def test_it_loads(config: Config) -> None:
    template = config.template("m")
    assert (template.vcpu, template.vram) == (2, 2**32)
    assert [(disk.name, disk.path, disk.readonly) for disk in template.disk] == [
        ("os", "/srv/images/nixos.efi.img", False),
        ("tools", "/srv/images/tools.img", True),
    ]
    assert [(net.name, net.type.kind) for net in template.net] == [
        ("main", "tap"),
        ("side", "macvtap"),
        ("fast", "vhost"),
    ]


def test_each_key_without_effect_is_warned_about_once(config: Config, paths: Paths) -> None:
    keys = sorted(line.removeprefix(f"{paths.config}: ").partition(" has no effect: ")[0] for line in config.warnings)
    assert keys == sorted(
        [
            *("node.alias", "node.private_key", "node.public_key", "node.passive"),
            *("peer[0].alias", "peer[0].url", "peer[0].weight", "peer[0].public_key"),
            *("dhcp.kea.url", "dhcp.kea.suffix", "dhcp.fake.pool.main.subnet", "dhcp.fake.pool.main.range"),
            *("template.vm[0].uuid", "template.vm[0].extra.inner", "template.vm[0].extra.autostart"),
            *("template.vm[0].net[0].type.tap.mac", "template.vm[0].net[0].type.tap.ip"),
        ]
    )
    assert all(line.partition(" has no effect: ")[2] for line in config.warnings)


def test_keys_that_are_not_set_are_not_warned_about(paths: Paths) -> None:
    paths.config.write_text("[node]\nalias = 'a'\n[dhcp.fake]\n")
    assert [line for line in load(paths).warnings if "node.alias" not in line] == []
