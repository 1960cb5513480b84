"""Over the limits: what a raw client is told, and that stock clients at their defaults find their way by themselves."""

import concurrent.futures
import json
import pathlib
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import boto3
import botocore.config
import botocore.exceptions
import pytest

from gateway import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, Gateway, free_port

RATE = 20
BURST = 20
BUCKET = "limited"
NODE = pathlib.Path(__file__).parent / "node"


def client(gateway, **config):
    return boto3.client(
        "s3",
        endpoint_url=gateway.endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        verify=str(gateway.ca),
        config=botocore.config.Config(max_pool_connections=2 * BURST, **config),
    )


def metrics(gateway):
    with urllib.request.urlopen(f"http://127.0.0.1:{gateway.admin_port}/metrics", timeout=5) as answer:
        return answer.read().decode()


def value(gateway, series):
    found = re.search(rf"^{re.escape(series)} (\S+)$", metrics(gateway), re.MULTILINE)
    return float(found[1]) if found else 0.0


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    settings = {}
    for kind in ("READ", "WRITE", "LIST"):
        settings[f"T2GATE_RATE_LIMIT__{kind}__RATE"] = str(RATE)
        settings[f"T2GATE_RATE_LIMIT__{kind}__BURST"] = str(BURST)
    running = Gateway(tmp_path_factory.mktemp("limited"), settings=settings)
    s3 = client(running)
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="key", Body=b"bytes")
    yield running
    code = running.stop()
    log = running.log.read_text(errors="replace")
    assert code == 0 and "panicked" not in log and SECRET_ACCESS_KEY not in log, log


@pytest.fixture
def rested(limited):
    """The same, with all of its buckets full again."""
    time.sleep(BURST / RATE)
    return limited


@pytest.fixture
def environment(limited, tmp_path):
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": limited.endpoint,
        "AWS_CA_BUNDLE": str(limited.ca),
        "NODE_EXTRA_CA_CERTS": str(limited.ca),
    }


def at_once(call, count):
    """All of them started together; the answers."""
    with concurrent.futures.ThreadPoolExecutor(count) as threads:
        return [future.result() for future in [threads.submit(call) for _ in range(count)]]


def test_a_refusal_says_when_to_come_back(rested):
    s3 = client(rested, retries={"total_max_attempts": 1})

    def ask():
        try:
            s3.get_object(Bucket=BUCKET, Key="key")["Body"].read()
        except botocore.exceptions.ClientError as error:
            return error.response

    refused = [answer for answer in at_once(ask, 2 * BURST) if answer]
    now = time.monotonic()
    assert refused
    told = []
    for answer in refused:
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 429
        assert answer["Error"]["Code"] == "SlowDown"
        milliseconds = int(headers["x-amz-retry-after"])
        assert int(headers["retry-after"]) == max(1, -(-milliseconds // 1000))
        told.append(now + milliseconds / 1000)
    assert len({answer["ResponseMetadata"]["HTTPHeaders"]["x-amz-retry-after"] for answer in refused}) > len(refused) / 2
    # The truth: the last of them comes when it was told, and gets in.
    time.sleep(max(0, max(told) - time.monotonic()))
    assert ask() is None
    assert value(rested, 't2gate_rate_limited_total{kind="read"}') >= len(refused)


@pytest.mark.parametrize("operation", ["get_object", "head_object", "put_object", "list_objects_v2"])
def test_boto3_gets_through_a_burst_of_twice_the_limit(rested, operation):
    arguments = {"Bucket": BUCKET, "Key": "key"}
    if operation == "put_object":
        arguments["Body"] = b"bytes"
    if operation == "list_objects_v2":
        del arguments["Key"]
    s3 = client(rested)
    at_once(lambda: getattr(s3, operation)(**arguments), 2 * BURST)


def test_a_head_waits_instead_of_being_refused(rested):
    s3 = client(rested, retries={"total_max_attempts": 1})
    start = time.monotonic()
    at_once(lambda: s3.head_object(Bucket=BUCKET, Key="key"), BURST + RATE // 2)
    assert time.monotonic() - start >= 0.4


def test_the_aws_command_line_gets_through_a_burst_of_twice_the_limit(rested, environment, clients, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for number in range(2 * BURST):
        (source / f"{number}.txt").write_text("bytes")
    aws = clients / "python" / "bin" / "aws"
    subprocess.run([aws, "s3", "cp", "--recursive", source, f"s3://{BUCKET}/cli/"], env=environment, check=True)
    subprocess.run([aws, "s3", "cp", "--recursive", f"s3://{BUCKET}/cli/", tmp_path / "back"], env=environment, check=True)
    assert len(list((tmp_path / "back").iterdir())) == 2 * BURST


def test_the_javascript_sdk_gets_through_a_burst_of_twice_the_limit(rested, environment):
    node = shutil.which("node")
    subprocess.run([node, NODE / "burst.mjs", BUCKET, str(2 * BURST)], env=environment, check=True)


def test_a_real_prometheus_scrapes_what_was_sent(rested, tmp_path):
    port = free_port()
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        "scrape_configs:\n"
        f"- {{job_name: t2gate, static_configs: [{{targets: ['127.0.0.1:{rested.admin_port}']}}]}}\n"
    )
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]

    def query(expression):
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{query}", timeout=5) as answer:
            result = json.load(answer)["data"]["result"]
        return float(result[0]["value"][1]) if result else None

    def until(holds, seconds=30):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if holds():
                    return
            except (urllib.error.URLError, ConnectionError, socket.timeout):
                pass
            time.sleep(0.2)
        pytest.fail("Prometheus did not come to it in time")

    before = value(rested, "t2gate_received_bytes_total")
    prometheus = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        until(lambda: query("t2gate_received_bytes_total") is not None)
        s3 = client(rested)
        for number in range(8):
            s3.put_object(Bucket=BUCKET, Key=f"throughput/{number}", Body=bytes(1 << 20))
        sent = value(rested, "t2gate_received_bytes_total") - before
        # A little more than the bytes: the framing.
        assert 8 << 20 <= sent <= (8 << 20) * 1.01
        # Counted from the first scrape on, so not extrapolated: the last value less the first.
        over_all = "max_over_time(t2gate_received_bytes_total[1m]) - min_over_time(t2gate_received_bytes_total[1m])"
        until(lambda: query(over_all) == sent)
        assert query("sum(rate(t2gate_received_bytes_total[10s]))") > 0
        assert query('t2gate_requests_total{operation="PutObject",status="200"}') >= 8
        assert query("process_resident_memory_bytes") > 0
    finally:
        prometheus.terminate()
        prometheus.wait(20)


def test_promtool_finds_nothing_to_complain_about(rested):
    with urllib.request.urlopen(f"http://127.0.0.1:{rested.admin_port}/metrics", timeout=5) as answer:
        metrics = answer.read()
    said = subprocess.run(["promtool", "check", "metrics"], input=metrics, capture_output=True)
    assert (said.returncode, said.stdout, said.stderr) == (0, b"", b"")


def test_over_the_memory_budget_a_request_is_told_to_slow_down(tmp_path):
    gateway = Gateway(tmp_path, settings={"T2GATE_LIMITS__MEMORY_BUDGET": str(8 << 20)})
    try:
        s3 = client(gateway)
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key="large", Body=bytes(16 << 20))
        # Sixteen answers that nobody reads hold what each has reserved.
        held = [s3.get_object(Bucket=BUCKET, Key="large")["Body"] for _ in range(16)]
        assert value(gateway, "t2gate_memory_budget_used_bytes") == 8 << 20
        refusing = client(gateway, retries={"total_max_attempts": 1})
        with pytest.raises(botocore.exceptions.ClientError) as refused:
            refusing.put_object(Bucket=BUCKET, Key="other", Body=b"bytes")
        answer = refused.value.response["ResponseMetadata"]
        assert answer["HTTPStatusCode"] == 503
        assert (answer["HTTPHeaders"]["retry-after"], answer["HTTPHeaders"]["x-amz-retry-after"]) == ("1", "1000")
        for body in held:
            body.close()
        s3.put_object(Bucket=BUCKET, Key="other", Body=b"bytes")
    finally:
        assert gateway.stop() == 0
