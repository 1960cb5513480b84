"""What is made once for all tests, and the closing line."""

import os
import pathlib
import shutil
import tempfile

import pytest

import tools


@pytest.fixture(scope="session")
def network():
    network = tools.Network()
    yield network
    network.remove()


@pytest.fixture(scope="session")
def certificates():
    return tools.Certificates.get()


@pytest.fixture(scope="session")
def gateway():
    """The release build, where every user can run it."""
    built = os.environ.get("GATEWAY_BINARY")
    if built is None:
        tools.run("cargo", "build", "--release", "--locked", "--package", "t2gate", cwd=tools.ROOT, timeout=3000)
        built = tools.ROOT / "target" / "release" / "t2gate"
    directory = pathlib.Path(tempfile.mkdtemp(prefix="t2gate-"))
    directory.chmod(0o755)
    binary = directory / "t2gate"
    shutil.copy(built, binary)
    yield binary
    shutil.rmtree(directory)


@pytest.fixture
def scratch():
    """A directory whose parents every user can pass through."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="t2gate-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def pytest_unconfigure(config):
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    count = {name: len(reporter.stats.get(name, [])) for name in ("passed", "failed", "error", "skipped")}
    # Nothing may be skipped: what cannot be tried has failed.
    failed = count["failed"] + count["error"] + count["skipped"]
    reporter.write_line(f"{count['passed']} passed, {failed} failed")
