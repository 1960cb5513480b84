"""Prometheus' own tools judge configuration, rules and metrics; a real Prometheus scrapes a real gateway."""

import json
import re
import subprocess
import urllib.parse

import pytest
import yaml
from botocore.exceptions import ClientError

from tools import DEPLOY, Process, get, run, s3, wait_for

PROMETHEUS = DEPLOY / "prometheus"
ADMIN = "http://127.0.0.1:8444"
SERVER = "http://127.0.0.1:9090"
KEY, SECRET = "tests-key", "fedcba9876543210fedcba9876543210"


def rules():
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_configuration_and_rules_are_right():
    # With --lint=all whatever promtool would have otherwise is an error.
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", PROMETHEUS / "alerts.yml")
    run("promtool", "check", "config", "--lint=all", "--lint-fatal", PROMETHEUS / "prometheus.yml")


def test_alerts_fire_when_they_should_and_not_before():
    run("promtool", "test", "rules", "alerts_test.yml", cwd=PROMETHEUS)


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not():
    tests = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    fires = {case["alertname"] for case in cases if case.get("exp_alerts")}
    rests = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    assert fires == rests == {rule["alert"] for rule in rules()}


def test_alerts_say_what_is_wrong_and_how_bad():
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), rule["alert"]
        assert {"summary", "description"} <= rule["annotations"].keys(), rule["alert"]
        assert "$labels.instance" in rule["annotations"]["summary"], rule["alert"]


@pytest.fixture
def serving(gateway, scratch, certificates, network):
    """A gateway, within the tests' network."""
    config = scratch / "t2gate.toml"
    config.write_text(
        f'[tls]\ncertificate = "{certificates.chain}"\nkey = "{certificates.key}"\n'
        f'[[backend]]\nname = "main"\nroot = "{scratch / "data"}"\n'
        '[[backend]]\nname = "cloud"\nkind = "opendal"\nservice = "memory"\n'
        '[[bucket]]\nname = "cloud-*"\nbackend = "cloud"\n'
        f'[[account]]\nid = "tests"\n[[account.key]]\nid = "{KEY}"\nsecret = "{SECRET}"\n'
        'kind = "global"\ncapabilities = ["all"]\n'
    )
    with network.inside(), Process([gateway, "serve", "--config", config], scratch / "log", cwd=scratch) as process:
        wait_for("/readyz is 200", lambda: process.alive() and get(f"{ADMIN}/readyz")[0] == 200)
        yield process


def query(expression):
    """The value of an instant query, summed; None where it has no series."""
    status, text = get(f"{SERVER}/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
    if status != 200:
        return None
    result = json.loads(text)["data"]["result"]
    return sum(float(series["value"][1]) for series in result) if result else None


def test_a_real_prometheus_measures_what_was_sent(serving, scratch, certificates):
    # The configuration as it is, but for a faster beat.
    text = (PROMETHEUS / "prometheus.yml").read_text()
    assert text.count("interval: 15s") == 2
    (scratch / "prometheus.yml").write_text(text.replace("interval: 15s", "interval: 1s"))
    (scratch / "alerts.yml").write_text((PROMETHEUS / "alerts.yml").read_text())
    command = [
        *("prometheus", f"--config.file={scratch / 'prometheus.yml'}", f"--storage.tsdb.path={scratch / 'tsdb'}"),
        "--web.listen-address=127.0.0.1:9090",
    ]
    with Process(command, scratch / "prometheus.log") as prometheus:
        wait_for("it scrapes", lambda: prometheus.alive() and query('up{job="t2gate"}') == 1, 30)
        client = s3("https://localhost:8443", certificates.ca, KEY, SECRET)
        client.create_bucket(Bucket="tests")
        wait_for("the first request is seen", lambda: query("t2gate_requests_total"), 30)
        for number in range(5):
            client.put_object(Bucket="tests", Key=str(number), Body=b"x" * 400_000)
        for number in range(3):
            assert len(client.get_object(Bucket="tests", Key=str(number))["Body"].read()) == 400_000
        with pytest.raises(client.exceptions.NoSuchKey):
            client.get_object(Bucket="tests", Key="missing")
        wait_for("5 puts", lambda: query('t2gate_requests_total{operation="PutObject"}') == 5, 30)
        wait_for("3 gets", lambda: query('t2gate_requests_total{operation="GetObject",status="200"}') == 3, 30)
        wait_for("a miss", lambda: query('t2gate_errors_total{code="NoSuchKey"}') == 1, 30)
        # A store is asked more than once for each of these, and has taken and given the bytes.
        client.create_bucket(Bucket="cloud-tests")
        client.put_object(Bucket="cloud-tests", Key="a", Body=b"x" * 400_000)
        assert len(client.get_object(Bucket="cloud-tests", Key="a")["Body"].read()) == 400_000
        labels = 'backend="cloud",service="memory"'
        for operation in ("read", "write"):
            expression = f't2gate_store_bytes_total{{{labels},operation="{operation}"}}'
            wait_for(expression, lambda e=expression: (query(e) or 0) >= 400_000, 30)
        expression = f't2gate_store_call_seconds_count{{{labels},operation="stat",result="ok"}}'
        wait_for(expression, lambda: (query(expression) or 0) > 0, 30)
        # Throughput: what came in and went out, but for framing and Prometheus' extrapolation.
        for direction, sent in (("received", 6 * 400_000), ("sent", 4 * 400_000)):
            expression = f"rate(t2gate_{direction}_bytes_total[1m]) * 60"
            wait_for(expression, lambda e=expression, s=sent: 0.9 * s < (query(e) or 0) < 1.1 * s, 30)
        wait_for("rules are judged", lambda: {rule["health"] for rule in loaded_rules()} == {"ok"}, 20)
        assert [rule["name"] for rule in loaded_rules()] == [rule["alert"] for rule in rules()]
        # The tests' certificates are made for two days: that alone is no reason to worry.
        assert [rule["name"] for rule in loaded_rules() if rule["state"] != "inactive"] == []
        assert prometheus.terminate() == 0


def loaded_rules():
    groups = json.loads(get(f"{SERVER}/api/v1/rules")[1])["data"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def exposition(certificates):
    """What is scraped after a request of each kind that the alerts ask about."""
    client = s3("https://localhost:8443", certificates.ca, KEY, SECRET)
    client.create_bucket(Bucket="tests")
    client.put_object(Bucket="tests", Key="a", Body=b"x")
    with pytest.raises(ClientError):
        s3("https://localhost:8443", certificates.ca, KEY, "another" + SECRET).list_buckets()
    return get(f"{ADMIN}/metrics")[1]


def test_metrics_are_clean(serving, certificates):
    text = exposition(certificates)
    done = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False)
    assert done.returncode == 0 and not done.stdout and not done.stderr, done


def test_alerts_ask_for_metrics_and_labels_that_there_are(serving, certificates):
    text = exposition(certificates)
    labels = {}
    for name, inside in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", text, re.M):
        labels.setdefault(name, {"job", "instance"}).update(re.findall(r'(\w+)="', inside))
    asked = set()
    for rule in rules():
        for name, inside in re.findall(r"\b((?:t2gate|process)_\w+)(?:\{([^}]*)\})?", rule["expr"]):
            assert name in labels, f"{rule['alert']}: {name}"
            assert set(re.findall(r"(\w+) *[=!]", inside)) <= labels[name], f"{rule['alert']}: {name}{{{inside}}}"
            asked.add(name)
        for grouping in re.findall(r"\bby \(([^)]*)\)", rule["expr"]):
            known = {"le"}.union(*(labels[name] for name in asked & labels.keys()))
            assert set(grouping.split(", ")) <= known, f"{rule['alert']}: by ({grouping})"
    assert len(asked) > 10
