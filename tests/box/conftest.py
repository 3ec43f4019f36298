"""A whole Debian host in QEMU, with systemd, Open vSwitch, Kea, nix and a /dev/kvm that works.

It is the one that `VIRSHLE_BOX` names, or NAME-gw0, NAME-gw1, ... one for each of pytest's workers.
`./scripts/test box` makes them, and ends them.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from tests.box.box import NO_CLOUD_HYPERVISOR, Box, Web


@pytest.fixture(scope="session")
def the_box(request: pytest.FixtureRequest) -> Iterator[Box]:
    name = os.environ.get("VIRSHLE_BOX")
    if not name:
        pytest.skip("no box: ./scripts/test box makes one; or VIRSHLE_BOX=NAME, whose VMs every test deletes")
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    box = Box(f"{name}-{worker}" if worker else name)
    yield box
    box.clean()
    box.end_warm()


@pytest.fixture
def box(the_box: Box) -> Box:
    """Without VMs; each test cleans what the one before it left."""
    the_box.clean()
    return the_box


@pytest.fixture(scope="module", params=["cloud-hypervisor", "qemu"])
def hypervisor(request: pytest.FixtureRequest, the_box: Box) -> str:
    """Each VMM in turn; all tests of a module with the one before those with the other."""
    if request.param == "cloud-hypervisor" and not the_box.has_cloud_hypervisor():
        pytest.skip(NO_CLOUD_HYPERVISOR)
    return str(request.param)


@pytest.fixture
def web(the_box: Box, hypervisor: str) -> Web:
    """A VM that is shared as long as no test fails. Ask it to be `stopped()` or `ready()`."""
    if not the_box.web or the_box.web.hypervisor != hypervisor:
        the_box.web = Web(the_box, hypervisor)
    return the_box.web


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and isinstance(item, pytest.Function) and isinstance(box := item.funcargs.get("the_box"), Box):
        box.web = None
    return report


class _ByModuleAndVmm(LoadScopeScheduling):  # type: ignore[misc]
    """What shares a VM goes to the same worker."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.partition("::")[0] + ("[qemu]" if "[qemu" in nodeid else "")


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> _ByModuleAndVmm:
    return _ByModuleAndVmm(config, log)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    yield
    if any(NO_CLOUD_HYPERVISOR in str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])):
        terminalreporter.write_line(f"NOT COVERED: {NO_CLOUD_HYPERVISOR}", red=True, bold=True)
