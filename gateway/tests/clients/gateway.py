"""The gateway under test: started as a newcomer would start it, over a fresh directory, and stopped by its own id."""

import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

ACCESS_KEY_ID = "T2CLIENTSUITE00000001"
SECRET_ACCESS_KEY = "Clients/Suite+Secret/Key+With/Signs+0001"
REGION = "us-east-1"
START_SECONDS = 30
STOP_SECONDS = 30


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Gateway:
    """A running gateway. `data` is its directory: an object lies at `data/bucket/key`. `settings` are T2GATE_ variables."""

    def __init__(self, directory, arguments=(), settings=None):
        self.data = pathlib.Path(directory) / "data"
        self.log = pathlib.Path(directory) / "gateway.log"
        for attempt in range(3):
            try:
                self._start(directory, arguments, settings)
                return
            except RuntimeError:
                # Somebody else has got the port that was free a moment ago.
                if attempt == 2 or "cannot listen on" not in self.tail():
                    raise

    def _start(self, directory, arguments, settings):
        self.port = free_port()
        self.admin_port = free_port()
        self.endpoint = f"https://127.0.0.1:{self.port}"
        self.virtual_endpoint = f"https://s3.localhost:{self.port}"
        self.ca = self.data / ".t2" / "tls" / "ca.pem"
        command = [os.environ["T2_GATEWAY"], "serve", "--data", str(self.data)]
        command += ["--listen", f"127.0.0.1:{self.port}", "--admin-listen", f"127.0.0.1:{self.admin_port}", *arguments]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("T2GATE_")}
        environment.update(settings or {})
        environment["T2GATE_ACCESS_KEY_ID"] = ACCESS_KEY_ID
        environment["T2GATE_SECRET_ACCESS_KEY"] = SECRET_ACCESS_KEY
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=directory
            )
        try:
            self._await_ready()
        except BaseException:
            self.stop()
            raise

    def _await_ready(self):
        deadline = time.monotonic() + START_SECONDS
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"the gateway ended with {self.process.returncode}:\n{self.tail()}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/readyz", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                pass
            if time.monotonic() > deadline:
                raise RuntimeError(f"the gateway was not ready after {START_SECONDS} s:\n{self.tail()}")
            time.sleep(0.05)

    def tail(self, lines=60):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self):
        """Ends the process gently; returns its exit code, or kills it when it does not end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode

    def file(self, bucket, key):
        """The plain file of an object whose key is a plain name."""
        return self.data / bucket / key
