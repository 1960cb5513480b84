"""The image: built from the Dockerfile as it is, run as Kubernetes would."""

import json
import os
import pathlib
import re
import shutil

import pytest

from tools import DEPLOY, ROOT, TOOLS, Pod, drains, get, made_key, round_trip, run, s3, template, wait_for

IMAGE = "localhost/t2gate:test"
MOST_BYTES = 60_000_000
ENGINE = TOOLS / "containers"
ADMIN = "http://127.0.0.1:8444"


def engine(*command, **options):
    """podman or buildah with storage and settings of the tests' own."""
    environment = os.environ | {
        "CONTAINERS_CONF": str(ENGINE / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(ENGINE / "storage.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(ENGINE / "registries.conf"),
    }
    return run(*command, env=environment, **options)


def podman(*arguments, **options):
    return engine("podman", *arguments, **options)


def settings():
    ENGINE.mkdir(parents=True, exist_ok=True)
    (ENGINE / "containers.conf").write_text(
        '[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]\n'
        '[engine]\ncgroup_manager = "cgroupfs"\nruntime = "runc"\nevents_logger = "file"\n'
    )
    (ENGINE / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{ENGINE / "storage"}"\nrunroot = "{ENGINE / "run"}"\n'
    )
    # No registry is asked for anything.
    (ENGINE / "registries.conf").write_text("unqualified-search-registries = []\n")


def builder():
    """The name that the Dockerfile builds from, for an image made here: Debian's base, a compiler, and a place for the
    Rust toolchain of this machine."""
    name = re.search(r"^FROM (\S+) AS build$", (DEPLOY / "Dockerfile").read_text(), re.M).group(1)
    name = f"localhost/{name}"
    if podman("image", "exists", name, check=False).returncode == 0:
        return
    base = TOOLS / "base"
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True)
    sources = (pathlib.Path("/etc/apt/sources.list.d/debian.sources"), pathlib.Path("/etc/apt/sources.list"))
    text = "\n".join(path.read_text() for path in sources if path.exists())
    mirror = re.search(r"^(?:URIs:|deb(?: \[.*?\])?) *(\S+)", text, re.M).group(1)
    run(
        *("debootstrap", "--variant=minbase", "--include=gcc,libc6-dev,ca-certificates", "bookworm"),
        *(base / "root", mirror),
        timeout=900,
    )
    left_out = ("./dev/*", "./var/cache/apt/*", "./var/lib/apt/lists/*", "./usr/share/doc/*", "./usr/share/locale/*")
    run(
        "tar",
        "-C",
        base / "root",
        *(f"--exclude={path}" for path in left_out),
        "-cf",
        base / "root.tar",
        ".",
        timeout=300,
    )
    path = "/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    podman(
        *("import", "--change", f"ENV PATH={path}", "--change", "ENV CARGO_HOME=/usr/local/cargo"),
        *(base / "root.tar", name),
        timeout=600,
    )
    shutil.rmtree(base)


@pytest.fixture(scope="module")
def image():
    settings()
    builder()
    toolchain = run("rustc", "--print", "sysroot", cwd=ROOT).stdout.strip()
    authorities = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    engine(
        *("buildah", "bud", "--isolation", "chroot", "--network", "host", "--pull-never", "--format", "docker"),
        *("--layers", "--volume", f"{toolchain}:/usr/local/rust:ro"),
        *("--volume", f"{authorities}:/etc/ssl/certs/ca-certificates.crt:ro"),
        *("--file", DEPLOY / "Dockerfile", "--tag", IMAGE, ROOT),
        timeout=3000,
    )
    # What went into the image stays for a day, so that the next build of the same sources is a matter of seconds.
    podman("image", "prune", "--force", "--filter", "until=24h", timeout=300)
    return json.loads(podman("image", "inspect", IMAGE).stdout)[0]


class Container:
    """The image, running in the tests' network, as little privileged as Kubernetes has it. Ends with the block."""

    def __init__(self, network, *options, arguments=(), name="t2gate-test"):
        self.name = f"{name}-{os.getpid()}"
        podman(
            *("run", "--detach", "--pull", "never", "--name", self.name, "--network", f"ns:/run/netns/{network.name}"),
            *("--cap-drop", "all", "--read-only", "--read-only-tmpfs=false", "--security-opt", "no-new-privileges"),
            *("--memory", "64m", *options, IMAGE, *arguments),
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        podman("rm", "--force", "--time", "0", self.name, check=False)

    def said(self):
        done = podman("logs", self.name)
        return done.stdout + done.stderr

    def state(self):
        return json.loads(podman("inspect", self.name).stdout)[0]["State"]

    def alive(self):
        assert self.state()["Running"], self.said()[-4000:]
        return True

    def terminate(self):
        """SIGTERM to process 1; the exit code."""
        podman("stop", "--time", "40", self.name, timeout=60)
        return self.state()["ExitCode"]


def ready(container):
    wait_for("/readyz is 200", lambda: container.alive() and get(f"{ADMIN}/readyz")[0] == 200, 30)


def data_directory(scratch):
    data = scratch / "data"
    data.mkdir()
    os.chown(data, 65532, 65532)
    return data


def mount(pod):
    """The options that give a container what its pod has."""
    return [
        option
        for path, (directory, read_only) in pod.mounts.items()
        for option in ("--volume", f"{directory}:{path}{':ro' if read_only else ''}")
    ]


def test_the_image_is_small(image):
    assert 1_000_000 < image["Size"] < MOST_BYTES, image["Size"]


def test_the_image_runs_as_nobody_in_particular(image):
    config = image["Config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["/usr/bin/t2gate"] and config["Cmd"][0] == "serve"
    assert config["StopSignal"] in ("SIGTERM", "15")
    assert "/data" in config["Volumes"] and "8443/tcp" in config["ExposedPorts"]
    health = image["Healthcheck"]
    assert health["Test"][:3] == ["CMD", "/usr/bin/t2gate", "health"]


def test_the_image_holds_the_program_and_nothing_to_break_in_with(image, scratch):
    archive = scratch / "image.tar"
    podman("create", "--name", f"t2gate-look-{os.getpid()}", IMAGE)
    try:
        podman("export", "--output", archive, f"t2gate-look-{os.getpid()}")
    finally:
        podman("rm", "--force", f"t2gate-look-{os.getpid()}")
    listing = run("tar", "-tvf", archive).stdout
    names = [line.split(None, 5)[5] for line in listing.splitlines()]
    programs = [name for name in names if re.match(r"(usr/)?s?bin/.", name)]
    assert programs == ["usr/bin/t2gate"], programs
    assert any(name.endswith("libc.so.6") for name in names) and "etc/ssl/certs/ca-certificates.crt" in names
    of_everybody = [line for line in listing.splitlines() if line[8] == "w" and line[0] == "-"]
    set_user_id = [line for line in listing.splitlines() if "s" in line[:10]]
    assert not of_everybody and not set_user_id


def test_a_wrong_command_line_is_an_error(image, network):
    done = podman("run", "--rm", "--pull", "never", "--network", "none", IMAGE, "surf", check=False)
    assert done.returncode == 2 and "surf" in done.stderr, done


def test_put_and_get_over_tls_with_a_mounted_volume(image, network, scratch):
    """The image as it comes: only a volume is mounted. Its health check holds; SIGTERM drains and ends it with 0."""
    data = data_directory(scratch)
    with network.inside(), Container(network, "--user", "65532", "--volume", f"{data}:/data") as container:
        ready(container)
        podman("healthcheck", "run", container.name)
        key, ca = made_key(data / ".t2" / "keys.toml"), scratch / "ca.pem"
        printed = podman("exec", container.name, "/usr/bin/t2gate", "authority", "--config", "/etc/t2gate/t2gate.toml")
        ca.write_text(printed.stdout)
        client = s3("https://127.0.0.1:8443", ca, key["id"], key["secret"])
        body = round_trip(client, size=5_000_000)
        assert (data / "tests" / "a" / "b c").read_bytes() == body
        assert (data / "tests" / "a" / "b c").stat().st_uid == 65532
        drains(client, ca, container.terminate, f"{ADMIN}/readyz")
    # The next one finds what this one left.
    with network.inside(), Container(network, "--volume", f"{data}:/data") as container:
        ready(container)
        assert client.get_object(Bucket="tests", Key="a/b c")["Body"].read() == body
        assert container.terminate() == 0


def test_a_volume_that_cannot_be_written_is_one_line(image, network, scratch):
    data = scratch / "data"
    data.mkdir()
    with network.inside(), Container(network, "--volume", f"{data}:/data") as container:
        wait_for("it ends", lambda: not container.state()["Running"])
        assert container.state()["ExitCode"] == 1
        said = container.said().strip().splitlines()
        assert len(said) == 1 and "/data" in said[0], said


@pytest.mark.parametrize("values", ["full", "existing"])
def test_the_rendered_pod_serves(values, image, network, scratch, certificates):
    """The pod's arguments, files, user, group and probes, letter by letter."""
    existing = {
        "acme-keys": {"app": b"fedcba9876543210fedcba9876543210", "backup": b"0000111122223333444455556666"},
        "s3-example-com-tls": {"tls.crt": certificates.chain.read_bytes(), "tls.key": certificates.key.read_bytes()},
    }
    pod = Pod(template(values=values), scratch, existing)
    context = pod.spec["securityContext"]
    options = ["--user", f"{context['runAsUser']}:{context['runAsGroup']}", "--group-add", str(context["fsGroup"])]
    for name, value in pod.environment().items():
        options += ["--env", f"{name}={value}"]
    container = Container(network, *options, *mount(pod), arguments=pod.container["args"])
    with network.inside(), container:
        ports = {port["name"]: port["containerPort"] for port in pod.container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            request = pod.container[probe]["httpGet"]
            url = f"http://127.0.0.1:{ports[request['port']]}{request['path']}"
            wait_for(url, lambda url=url: container.alive() and get(url)[0] == 200)
        region = "eu-central-1" if values == "full" else "us-east-1"
        endpoint = f"https://localhost:{ports['s3']}"
        round_trip(s3(endpoint, certificates.ca, "acme-app", "fedcba9876543210fedcba9876543210", region))
        assert container.terminate() == 0
