"""The rendered command line and configuration start the real gateway, as the pod's user."""

import json

import pytest

import tools
from tools import VALUES, Pod, Process, drains, get, round_trip, run, s3, template, wait_for

ADMIN = "http://127.0.0.1:8444"
EXISTING = {
    "acme-keys": {
        "app": b"fedcba9876543210fedcba9876543210\n",
        "backup": b"0000111122223333444455556666",
        "other": b"x",
    },
    "s3": {"secret": b"not-a-real-secret", "token": b"not-a-real-token"},
    "google": {"service-account.json": b"{}"},
}


def pod_of(values, scratch, certificates):
    existing = EXISTING | {
        "s3-example-com-tls": {"tls.crt": certificates.chain.read_bytes(), "tls.key": certificates.key.read_bytes()}
    }
    return Pod(template(values=values), scratch, existing)


def start(gateway, pod, scratch):
    arguments = pod.localise()
    return Process([*pod.as_user(), gateway, *arguments], scratch / "log", cwd="/", env=pod.environment())


def ready(process):
    wait_for("/readyz is 200", lambda: process.alive() and get(f"{ADMIN}/readyz")[0] == 200)
    assert get(f"{ADMIN}/healthz")[0] == 200


@pytest.mark.parametrize("values", VALUES)
def test_the_rendered_configuration_is_right(values, gateway, scratch, certificates):
    pod = pod_of(values, scratch, certificates)
    pod.localise()
    config = pod.mounts["/etc/t2gate"][0] / "t2gate.toml"
    # The stores of the values are nowhere.
    run(*pod.as_user(), gateway, "check", "--no-probe", "--config", config, env=pod.environment(), cwd="/")


def test_the_chart_serves_with_everything_given(gateway, scratch, certificates, network):
    """Certificate and keys from the values, a Secret that is there, every setting: PUT and GET, then SIGTERM."""
    pod = pod_of("full", scratch, certificates)
    with network.inside(), start(gateway, pod, scratch) as process:
        ready(process)
        client = s3(
            *("https://localhost:8443", certificates.ca, "acme-app", "fedcba9876543210fedcba9876543210", "eu-central-1")
        )
        body = round_trip(client)
        assert (pod.mounts["/data"][0] / "tests" / "a" / "b c").read_bytes() == body
        assert (pod.mounts["/data"][0] / "tests" / "a" / "b c").stat().st_uid == 65532
        drains(client, certificates.ca, process.terminate, f"{ADMIN}/readyz")
        # JSON, a line each, without secrets.
        lines = [line for line in process.said().splitlines() if line.startswith("{")]
        assert lines and all(json.loads(line) for line in lines)
        assert "fedcba9876543210" not in process.said()


def test_the_chart_serves_with_everything_already_there(gateway, scratch, certificates, network):
    """Another user, a certificate and a key from existing Secrets."""
    pod = pod_of("existing", scratch, certificates)
    with network.inside(), start(gateway, pod, scratch) as process:
        ready(process)
        round_trip(s3("https://127.0.0.1:8443", certificates.ca, "acme-app", "fedcba9876543210fedcba9876543210"))
        assert (pod.mounts["/data"][0] / "tests").stat().st_uid == 1000
        assert process.terminate() == 0


def test_the_chart_serves_with_nothing_given(gateway, scratch, certificates, network):
    """An authority, a certificate and a key of the gateway's own, on its volume, as the notes say."""
    pod = pod_of("defaults", scratch, certificates)
    data = pod.mounts["/data"][0]
    with network.inside(), start(gateway, pod, scratch) as process:
        ready(process)
        key_file = data / ".t2" / "keys.toml"
        key = tools.made_key(key_file)
        assert key["id"] in process.said(), "the log says which key"
        round_trip(s3("https://localhost:8443", data / ".t2" / "tls" / "ca.pem", key["id"], key["secret"]))
        assert process.terminate() == 0


def test_the_memory_backend_serves(gateway, scratch, certificates, network):
    pod = pod_of("memory", scratch, certificates)
    with network.inside(), start(gateway, pod, scratch) as process:
        ready(process)
        ca = pod.mounts["/data"][0] / ".t2" / "tls" / "ca.pem"
        round_trip(s3("https://localhost:8443", ca, "acme-app", '0123456789"<&>\\abcdef'))
        assert not (pod.mounts["/data"][0] / "tests").exists()
        assert process.terminate() == 0


def test_health_says_how_a_gateway_is(gateway, scratch, certificates, network):
    """What the image's health check and `helm test` ask."""
    pod = pod_of("memory", scratch, certificates)
    (test,) = tools.one(pod.documents, "Pod")["spec"]["containers"]
    arguments = [argument.replace("test-t2gate-admin:", "127.0.0.1:") for argument in test["args"]]
    config = pod.mounts["/etc/t2gate"][0] / "t2gate.toml"
    with network.inside():
        nobody = run(gateway, *arguments, check=False, cwd="/")
        assert nobody.returncode == 1 and "127.0.0.1:8444" in nobody.stderr, nobody
        with start(gateway, pod, scratch) as process:
            ready(process)
            assert run(gateway, *arguments, cwd="/").returncode == 0
            run(*pod.as_user(), gateway, "health", "--config", config, cwd="/")
            wrong = run(gateway, "health", "--address", "127.0.0.1:8443", check=False, cwd="/")
            assert wrong.returncode == 1, wrong


@pytest.mark.parametrize("variable", ["T2GATE_LIMITS__HEADER_BYTES", "T2GATE_LIMITS__CONECTIONS"])
def test_what_the_schema_cannot_see_the_gateway_refuses_by_name(variable, gateway, scratch):
    """Variables reach the gateway past the schema: here a wrong value, and a wrong name."""
    setting = ("--set", f"extraEnv[0].name={variable}", "--set-string", "extraEnv[0].value=1")
    pod = Pod(template(*setting, values="memory"), scratch)
    done = run(*pod.as_user(), gateway, *pod.localise(), env=pod.environment(), check=False, cwd="/")
    assert done.returncode == 2, done
    assert variable in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


@pytest.mark.parametrize("service", ["sftp", "webhdfs"])
def test_a_release_says_which_feature_a_service_needs(service, gateway, scratch):
    """The tests of the crates run with all features; what is released has the default ones."""
    config = scratch / "t2gate.toml"
    config.write_text(f'[backend]\nkind = "opendal"\nservice = "{service}"\n')
    done = run(gateway, "check", "--no-probe", "--config", config, check=False, cwd="/")
    assert done.returncode == 2, done
    assert f'needs a build with the Cargo feature "{service}"' in done.stderr, done.stderr
