"""The unit, by systemd's own judgement."""

import re

import tools
from tools import run

UNIT = tools.DEPLOY / "systemd" / "t2gate.service"
# Of 10; what is merely "medium" for systemd starts at 5. The unit stands at 1.2.
MOST_EXPOSED = 1.5


def installed(scratch, gateway):
    """A copy that names a program which is there."""
    unit = scratch / UNIT.name
    text = UNIT.read_text()
    assert text.count("ExecStart=/usr/bin/t2gate serve --config /etc/t2gate/t2gate.toml") == 1
    unit.write_text(text.replace("/usr/bin/t2gate", str(gateway)))
    return unit


def test_the_unit_is_well_formed(scratch, gateway):
    done = run("systemd-analyze", "verify", "--man=no", installed(scratch, gateway))
    assert UNIT.name not in done.stderr, done.stderr


def test_the_unit_is_hardened(scratch, gateway):
    said = run(
        *("systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED * 10:.0f}"),
        installed(scratch, gateway),
    ).stdout
    level = float(re.search(r"Overall exposure level for t2gate.service: ([0-9.]+)", said).group(1))
    assert level <= MOST_EXPOSED, said


def test_the_unit_waits_for_the_drain():
    """As long as the gateway drains by default, and then some."""
    drain = int(
        re.search(r'^drain_deadline = "(\d+)s"', (tools.ROOT / "config.example.toml").read_text(), re.M).group(1)
    )
    stop = int(re.search(r"^TimeoutStopSec=(\d+)s", UNIT.read_text(), re.M).group(1))
    assert stop >= drain + 10
