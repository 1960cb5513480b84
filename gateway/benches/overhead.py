#!/usr/bin/env python3
"""What the gateway costs in front of a store: the same client asks a SeaweedFS directly and through t2gate, in turn.

    cargo build --release -p t2gate && backends/tests/stores/install
    gateway/benches/overhead.py [--seconds N] [--gateway BINARY]

Both are started here, on loopback, and end with it. Every round asks both ways, so that what else the machine does meets both.
The direct way is HTTP, that through the gateway TLS, as clients have it. Prints the medians and their ratio, and judges
nothing: machines differ. Needs python3 alone.
"""

import argparse
import contextlib
import datetime
import hashlib
import hmac
import http.client
import os
import pathlib
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
STORE_KEY, STORE_SECRET = "key", "secret"
KEY, SECRET = "T2OVERHEAD0000000001", "Overhead/Secret+Key/Of+The+Benchmark/001"
REGION = "us-east-1"
KIB, MIB = 1024, 1024 * 1024
START_SECONDS = 120


class Client:
    """One connection that signs its requests and leaves payloads unsigned."""

    def __init__(self, connection, key, secret):
        self.connection = connection
        self.key, self.secret = key, secret
        self.host = f"localhost:{connection.port}"

    def send(self, method, path, body=b""):
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        headers = {"host": self.host, "x-amz-content-sha256": "UNSIGNED-PAYLOAD", "x-amz-date": now}
        names = ";".join(sorted(headers))
        canonical = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        request = f"{method}\n{path}\n\n{canonical}\n{names}\nUNSIGNED-PAYLOAD"
        scope = f"{now[:8]}/{REGION}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        signing = ("AWS4" + self.secret).encode()
        for part in (now[:8], REGION, "s3", "aws4_request", text):
            signing = hmac.new(signing, part.encode(), hashlib.sha256).digest()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.key}/{scope}, SignedHeaders={names}, Signature={signing.hex()}"
        )
        self.connection.request(method, path, body=body, headers=headers)
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:500]!r}")
        return content

    def timed(self, method, path, body=b"", size=0):
        begun = time.perf_counter()
        content = self.send(method, path, body)
        seconds = time.perf_counter() - begun
        if len(content) != size:
            raise RuntimeError(f"{method} {path}: {len(content)} bytes came back")
        return seconds


def free_port(below=65_536):
    while True:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            if taken.getsockname()[1] < below:
                return taken.getsockname()[1]


@contextlib.contextmanager
def running(command, log, **options):
    """A process that ends with the block."""
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(what, process, log, condition):
    end = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(OSError, RuntimeError, http.client.HTTPException):
            if condition():
                return
        if process.poll() is not None or time.monotonic() > end:
            sys.exit(f"{what} did not start:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.1)


def store_command(directory, port):
    # Its ports for gRPC are 10,000 higher, unless told otherwise.
    ports = [f"-{name}.port={free_port(55_000)}" for name in ("master", "volume", "filer")]
    return [
        *(ROOT / "target/stores/venv/bin/weed", "server", f"-dir={directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *("-volume.max=50", "-master.volumeSizeLimitMB=64", "-filer", "-s3", f"-s3.port={port}"),
        *(f"-s3.port.grpc={free_port()}", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        *(f"-filer.localSocket={directory}/filer.sock", *ports),
    ]


def configuration(directory, store_port, port, admin_port):
    return f"""
[listen]
address = "127.0.0.1:{port}"
admin_address = "127.0.0.1:{admin_port}"
[backend]
kind = "opendal"
root = "{directory}/data"
service = "s3"
least_level = "L2"
options = {{ bucket = "store", endpoint = "http://127.0.0.1:{store_port}", region = "{REGION}", access_key_id = "{STORE_KEY}", secret_access_key = "{STORE_SECRET}" }}
[rate_limit]
per_address = {{ rate = 0 }}
per_key = {{ rate = 0 }}
read = {{ rate = 0 }}
write = {{ rate = 0 }}
list = {{ rate = 0 }}
"""


def is_ready(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/readyz")
    return connection.getresponse().status == 200


def measure(ways, size, seconds):
    """Medians in seconds by way, of PUT and GET."""
    body = os.urandom(size)
    times = {(way, method): [] for way in ways for method in ("PUT", "GET")}
    end = time.monotonic() + seconds
    number = 0
    while number < 5 or time.monotonic() < end:
        # Who goes first changes, and so does the key; large ones are overwritten so that the disk holds them.
        order = list(ways.items()) if number % 2 else list(reversed(ways.items()))
        for way, client in order:
            path = f"/{'store' if way == 'direct' else 'overhead'}/object-{size}-{number % (4 if size > MIB else 1000)}"
            times[way, "PUT"].append(client.timed("PUT", path, body))
            times[way, "GET"].append(client.timed("GET", path, size=size))
        number += 1
    return {what: statistics.median(taken) for what, taken in times.items()}, number


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20, help="of each size")
    parser.add_argument("--gateway", default=ROOT / "target/release/t2gate", type=pathlib.Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="t2gate-overhead-") as directory, contextlib.ExitStack() as processes:
        directory = pathlib.Path(directory)
        (directory / "store").mkdir()
        store_port, port, admin_port = free_port(), free_port(), free_port()
        log = directory / "store.log"
        # Without keys of its own it takes any signature.
        store = processes.enter_context(running(store_command(directory / "store", store_port), log))
        direct = Client(http.client.HTTPConnection("127.0.0.1", store_port, timeout=120), STORE_KEY, STORE_SECRET)

        def bucket_is_made():
            direct.connection.close()
            direct.send("PUT", "/store")
            return True

        until("SeaweedFS", store, log, bucket_is_made)
        (directory / "t2gate.toml").write_text(configuration(directory, store_port, port, admin_port))
        variables = {name: value for name, value in os.environ.items() if not name.startswith("T2GATE_")}
        variables |= {"T2GATE_ACCESS_KEY_ID": KEY, "T2GATE_SECRET_ACCESS_KEY": SECRET}
        log = directory / "gateway.log"
        command = [arguments.gateway.resolve(), "serve", "--config", directory / "t2gate.toml"]
        gateway = processes.enter_context(running(command, log, env=variables, cwd=directory))
        until("t2gate", gateway, log, lambda: is_ready(admin_port))
        trust = ssl.create_default_context(cafile=directory / "data/.t2/tls/ca.pem")
        connection = http.client.HTTPSConnection("localhost", port, context=trust, timeout=120)
        through = Client(connection, KEY, SECRET)
        through.send("PUT", "/overhead")

        print(f"{'':<14}{'rounds':>8}{'direct ms':>12}{'t2gate ms':>12}{'ratio':>8}{'added ms':>10}")
        for name, size in (("4 KiB", 4 * KIB), ("1 MiB", MIB), ("64 MiB", 64 * MIB)):
            medians, rounds = measure({"direct": direct, "through": through}, size, arguments.seconds)
            for method in ("PUT", "GET"):
                bare, ours = medians["direct", method] * 1000, medians["through", method] * 1000
                line = f"{method + ' ' + name:<14}{rounds:>8}{bare:>12.2f}{ours:>12.2f}{ours / bare:>8.2f}"
                print(f"{line}{ours - bare:>10.2f}", flush=True)


if __name__ == "__main__":
    main()
