"""What the tests have in common: where things are, running programs, a network of the tests' own, S3 over TLS."""

import base64
import contextlib
import ctypes
import hashlib
import os
import pathlib
import shutil
import signal
import ssl
import subprocess
import threading
import time
import tomllib
import urllib.error
import urllib.request

import boto3
import botocore.config
import yaml

HERE = pathlib.Path(__file__).resolve().parent
DEPLOY = HERE.parent
ROOT = DEPLOY.parent
TOOLS = ROOT / "target" / "deploy"
CHART = DEPLOY / "helm" / "t2gate"
VALUES = {path.stem: path for path in sorted((HERE / "values").glob("*.yaml"))}
MONITORING = "monitoring.coreos.com/v1"


def run(*command, timeout=60, check=True, **options):
    """Runs a program to its end. What it said is in the failure, if it is one."""
    command = [str(word) for word in command]
    if shutil.which(command[0]) is None:
        raise AssertionError(f"{command[0]} is not installed")
    done = subprocess.run(
        command, timeout=timeout, text=True, stdin=subprocess.DEVNULL, capture_output=True, check=False, **options
    )
    if check and done.returncode != 0:
        raise AssertionError(
            f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout[-8000:]}{done.stderr[-8000:]}"
        )
    return done


def wait_for(what, condition, seconds=20.0):
    """Asks until the answer is true; returns it."""
    end = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.1)


# --- helm


def helm(*arguments, **options):
    return run(TOOLS / "helm", *arguments, **options)


def template(*arguments, values="defaults", kube="1.35.0", monitoring=True, check=True, release="test"):
    """The rendered objects, or the finished process where `check` is false."""
    api = ["--api-versions", MONITORING] if monitoring else []
    values = ["--values", VALUES[values], *secret_values(values)] if values else []
    done = helm(
        "template",
        release,
        CHART,
        "--namespace",
        "storage",
        "--kube-version",
        kube,
        *api,
        *values,
        *arguments,
        check=check,
    )
    if not check:
        return done
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def secret_values(values):
    """What must not lie in the repository: full.yaml gets a certificate that was made for this run."""
    if values != "full":
        return []
    certificates = Certificates.get()
    return ["--set-file", f"tls.certificate={certificates.chain},tls.key={certificates.key}"]


def one(documents, kind, name=None):
    """The only object of that kind (and name)."""
    found = [d for d in documents if d["kind"] == kind and name in (None, d["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} objects of kind {kind}, name {name}"
    return found[0]


def workload(documents):
    (found,) = [d for d in documents if d["kind"] in ("StatefulSet", "Deployment")]
    return found


def pod_spec(documents):
    return workload(documents)["spec"]["template"]["spec"]


# --- a network in which nothing but the tests is


class Network:
    """A network namespace with a loopback interface and no other: every address in it is the tests' own."""

    def __init__(self):
        self.name = f"t2gate-{os.getpid()}"
        run("ip", "netns", "add", self.name)
        run("ip", "-n", self.name, "link", "set", "lo", "up")

    def remove(self):
        run("ip", "netns", "del", self.name)

    @contextlib.contextmanager
    def inside(self):
        """This thread, and what it starts, is in the namespace."""
        libc = ctypes.CDLL(None, use_errno=True)

        def enter(path):
            with open(path, "rb") as namespace:
                if libc.setns(namespace.fileno(), 0x40000000) != 0:
                    raise OSError(ctypes.get_errno(), "setns")

        with open("/proc/thread-self/ns/net", "rb") as before:
            enter(f"/run/netns/{self.name}")
            try:
                yield
            finally:
                if libc.setns(before.fileno(), 0x40000000) != 0:
                    raise OSError(ctypes.get_errno(), "setns back")


# --- certificates


class Certificates:
    """An authority, and a certificate by it for localhost and 127.0.0.1."""

    _made = None

    @classmethod
    def get(cls):
        if cls._made is None:
            cls._made = cls(TOOLS / "certificates")
        return cls._made

    def __init__(self, directory):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        self.ca, self.chain, self.key = (directory / name for name in ("ca.pem", "tls.crt", "tls.key"))
        ca_key, request, extensions = (directory / name for name in ("ca.key", "tls.csr", "extensions"))
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        run("openssl", "req", "-x509", *curve, "-keyout", ca_key, "-out", self.ca, "-days", "2", "-subj", "/CN=tests")
        run("openssl", "req", *curve, "-keyout", self.key, "-out", request, "-subj", "/CN=localhost")
        extensions.write_text(
            "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n"
        )
        run(
            *("openssl", "x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", ca_key, "-CAcreateserial"),
            *("-days", "2", "-extfile", extensions, "-out", self.chain),
        )


# --- a rendered pod on this machine


class Pod:
    """The files that a rendered pod would find, in a directory: mount path to directory on this machine."""

    def __init__(self, documents, directory, existing=None):
        """`existing`: Secrets that are there already, by name: {"name": {"key": bytes}}."""
        self.documents = documents
        self.spec = pod_spec(documents)
        (self.container,) = self.spec["containers"]
        self.directory = directory
        self.secrets = {
            d["metadata"]["name"]: {key: base64.b64decode(value) for key, value in d["data"].items()}
            for d in documents
            if d["kind"] == "Secret"
        } | (existing or {})
        self.uid = self.spec["securityContext"]["runAsUser"]
        self.gid = self.spec["securityContext"]["fsGroup"]
        claims = workload(documents)["spec"].get("volumeClaimTemplates", [])
        volumes = {volume["name"]: volume for volume in self.spec["volumes"]}
        self.mounts = {}
        for mount in self.container["volumeMounts"]:
            path = directory / mount["name"]
            path.mkdir(parents=True)
            if mount["name"] not in [claim["metadata"]["name"] for claim in claims]:
                self.fill(path, volumes[mount["name"]])
            if not mount.get("readOnly"):
                os.chown(path, 0, self.gid)
                path.chmod(0o2770)
            self.mounts[mount["mountPath"]] = (path, bool(mount.get("readOnly")))

    def fill(self, path, volume):
        if "configMap" in volume:
            for name, text in one(self.documents, "ConfigMap", volume["configMap"]["name"])["data"].items():
                self.write(path / name, text.encode(), 0o644)
        elif "secret" in volume:
            for name, value in self.secrets[volume["secret"]["secretName"]].items():
                self.write(path / name, value, volume["secret"]["defaultMode"])
        elif "projected" in volume:
            for source in volume["projected"]["sources"]:
                secret = self.secrets[source["secret"]["name"]]
                items = source["secret"].get("items") or [{"key": key, "path": key} for key in secret]
                for item in items:
                    assert not (path / item["path"]).exists(), f"{item['path']} comes from two Secrets"
                    self.write(path / item["path"], secret[item["key"]], volume["projected"]["defaultMode"])
        else:
            assert "emptyDir" in volume or "persistentVolumeClaim" in volume, volume

    def write(self, path, content, mode):
        # As the kubelet does: owned by root and the pod's group.
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.chown(path, 0, self.gid)
        path.chmod(mode)

    def on_this_machine(self, text):
        """Text with the paths of this machine instead of those in the container."""
        for mount_path, (path, _) in self.mounts.items():
            text = text.replace(f'"{mount_path}"', f'"{path}"').replace(f"{mount_path}/", f"{path}/")
        return text

    def localise(self):
        """Makes the configuration name this machine's paths; returns the command line that does too."""
        config = self.mounts["/etc/t2gate"][0] / "t2gate.toml"
        config.write_text(self.on_this_machine(config.read_text()))
        return [self.on_this_machine(argument) for argument in self.container["args"]]

    def environment(self):
        return {entry["name"]: entry["value"] for entry in self.container.get("env", [])}

    def as_user(self):
        """What runs a program as the pod's user, without privileges."""
        ids = ("--reuid", self.uid, "--regid", self.spec["securityContext"]["runAsGroup"], "--groups", self.gid)
        return ["setpriv", *map(str, ids), "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]


class Process:
    """A program in the background, with its output in a file. Ends with the block."""

    def __init__(self, command, log, **options):
        self.log = log
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def said(self):
        return self.log.read_text(errors="replace")

    def alive(self):
        assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.said()[-4000:]}"
        return True

    def terminate(self, seconds=40):
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


# --- asking


def get(url, timeout=5):
    """Status and text; (0, reason) where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def s3(endpoint, ca, key, secret, region="us-east-1"):
    config = botocore.config.Config(
        connect_timeout=5,
        read_timeout=60,
        retries={"max_attempts": 0},
        s3={"addressing_style": "path"},
        signature_version="s3v4",
    )
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        verify=str(ca),
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        region_name=region,
        config=config,
    )


def made_key(file):
    """The application key that a gateway made for itself: id and secret."""
    (account,) = tomllib.loads(file.read_text())["account"]
    (key,) = [key for key in account["key"] if key["kind"] != "master"]
    return key


def round_trip(client, bucket="tests", size=300_000):
    """What was put is what is got."""
    client.create_bucket(Bucket=bucket)
    body = os.urandom(size)
    put = client.put_object(Bucket=bucket, Key="a/b c", Body=body)
    got = client.get_object(Bucket=bucket, Key="a/b c")
    assert got["Body"].read() == body
    assert put["ETag"] == got["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    return body


class SlowUpload(threading.Thread):
    """A PUT that takes some seconds: half of the body, a wait until told, the other half. Written by hand, so that
    its pace is known."""

    def __init__(self, client, ca, bucket="tests", key="slow", size=1_000_000):
        super().__init__(daemon=True)
        self.url = client.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=300)
        self.ca, self.size = ca, size
        self.half_sent, self.go_on = threading.Event(), threading.Event()
        self.status = None

    def body(self):
        yield b"x" * (self.size // 2)
        self.half_sent.set()
        self.go_on.wait(30)
        yield b"y" * (self.size - self.size // 2)

    def run(self):
        request = urllib.request.Request(
            self.url, data=self.body(), method="PUT", headers={"Content-Length": str(self.size), "Content-Type": ""}
        )
        try:
            with urllib.request.urlopen(
                request, timeout=60, context=ssl.create_default_context(cafile=self.ca)
            ) as answer:
                self.status = answer.status
        except urllib.error.HTTPError as error:
            self.status = f"{error.code} {error.read()!r}"
        except OSError as error:
            self.status = repr(error)


def drains(client, ca, terminate, ready_url):
    """Told to end, a gateway is not ready, takes no more, and finishes what runs. `terminate` returns the exit code."""
    upload = SlowUpload(client, ca)
    upload.start()
    assert upload.half_sent.wait(10), upload.status
    time.sleep(0.5)
    codes = []
    stopper = threading.Thread(target=lambda: codes.append(terminate()), daemon=True)
    stopper.start()
    try:
        wait_for("/readyz says that it drains", lambda: "drain" in get(ready_url)[1], 10)
        assert get(ready_url)[0] == 503
        time.sleep(0.5)
        assert stopper.is_alive(), "ended under a running upload"
        upload.go_on.set()
        upload.join(30)
        assert upload.status == 200, upload.status
    finally:
        upload.go_on.set()
        stopper.join(45)
    assert codes == [0], codes
