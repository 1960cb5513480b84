"""What every suite shares: the gateway, a bucket, the input, and the ways to run a client."""

import http.client
import os
import pathlib
import random
import ssl
import subprocess
import urllib.parse

import boto3
import botocore.config
import pytest

from gateway import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, Gateway
from inputs import MIB

_outcomes = {"passed": 0, "failed": 0}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Adds the end of the gateway's log to a failure."""
    report = (yield).get_result()
    running = getattr(item, "funcargs", {}).get("gateway")
    if report.failed and isinstance(running, Gateway):
        report.sections.append(("the gateway's log", running.tail()))


def pytest_runtest_logreport(report):
    """A test counts once; what is skipped counts as failed, for nothing here may be left out."""
    if report.failed or report.skipped:
        _outcomes["failed"] += 1
    elif report.when == "call":
        _outcomes["passed"] += 1


def pytest_sessionfinish(session, exitstatus):
    if _outcomes["failed"] and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure(config):
    if not config.option.collectonly:
        print(f"{_outcomes['passed']} passed, {_outcomes['failed']} failed")


@pytest.fixture(scope="session")
def gateway(tmp_path_factory):
    running = Gateway(tmp_path_factory.mktemp("gateway"))
    yield running
    code = running.stop()
    assert code == 0, f"the gateway ended with {code} on SIGTERM:\n{running.tail()}"
    log = running.log.read_text(errors="replace")
    assert "panicked" not in log, log
    assert SECRET_ACCESS_KEY not in log
    if _outcomes["failed"] == 0:
        # Every bucket was emptied and deleted: nothing of all that was stored, refused or given up may be left.
        assert sorted(path.name for path in running.data.iterdir()) == [".t2"]
        for kept in ("staging", "attributes", "buckets"):
            assert list((running.data / ".t2" / kept).iterdir()) == [], kept


@pytest.fixture(scope="session")
def make_s3(gateway):
    """Makes boto3 clients: default settings, the gateway's own authority trusted, nothing else."""

    def make(access_key_id=ACCESS_KEY_ID, secret_access_key=SECRET_ACCESS_KEY, endpoint=None, **config):
        return boto3.client(
            "s3",
            endpoint_url=endpoint or gateway.endpoint,
            region_name=REGION,
            aws_access_key_id=access_key_id,
            aws_secret_access_key=secret_access_key,
            verify=str(gateway.ca),
            config=botocore.config.Config(**config) if config else None,
        )

    return make


@pytest.fixture(scope="session")
def s3(make_s3):
    return make_s3()


@pytest.fixture(scope="session")
def anonymous(make_s3):
    return make_s3(signature_version=botocore.UNSIGNED)


def empty_and_delete(s3, bucket):
    """Removes a bucket and all that is in it: every version, every delete marker, and uploads too."""
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        entries = page.get("Versions", []) + page.get("DeleteMarkers", [])
        wanted = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in entries]
        if wanted:
            failed = s3.delete_objects(Bucket=bucket, Delete={"Objects": wanted}).get("Errors")
            assert not failed, failed
    for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
        for upload in page.get("Uploads", []):
            s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    s3.delete_bucket(Bucket=bucket)


@pytest.fixture
def bucket(request, s3):
    """A bucket of the test's own; at the end it is emptied and deleted, which has to work too."""
    name = f"{request.module.__name__.removeprefix('test_').replace('_', '-')}-{random.randrange(16**8):08x}"
    s3.create_bucket(Bucket=name)
    yield name
    empty_and_delete(s3, name)


@pytest.fixture(scope="session")
def large(tmp_path_factory):
    """A file of 24 MiB and a bit: more than one part for every client here, the last one short."""
    path = tmp_path_factory.mktemp("input") / "large.bin"
    path.write_bytes(random.Random(2).randbytes(24 * MIB + 4321))
    return path


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("input") / "small.txt"
    path.write_bytes(random.Random(1).randbytes(1234))
    return path


@pytest.fixture(scope="session")
def clients():
    """Where `run` put the clients."""
    return pathlib.Path(os.environ["T2_CLIENTS"])


@pytest.fixture(scope="session")
def environment(gateway, tmp_path_factory):
    """For client processes: the gateway by the names that the AWS tools read, and no settings of whoever runs this."""
    home = tmp_path_factory.mktemp("home")
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_CA_BUNDLE": str(gateway.ca),
        "AWS_ENDPOINT_URL": gateway.endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@pytest.fixture(scope="session")
def run(environment):
    """Runs a client: returns its standard output, or fails with all that it said."""

    def run(*command, input=None, timeout=180, ok=True, **more):
        done = subprocess.run(
            [str(word) for word in command],
            env=environment | more,
            input=input,
            capture_output=True,
            timeout=timeout,
            cwd=environment["HOME"],
        )
        said = f"{command}\n{done.stdout.decode(errors='replace')}\n{done.stderr.decode(errors='replace')}"
        assert (done.returncode == 0) == ok, f"exit code {done.returncode} of {said}"
        return done.stdout if ok else done.stdout + done.stderr

    return run


class Answer:
    """Status, headers and body of a bare request."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()


@pytest.fixture(scope="session")
def https(gateway):
    """Sends a request that no SDK has touched, to a URL as it stands."""
    context = ssl.create_default_context(cafile=gateway.ca)

    def https(method, url, body=None, headers=None):
        parts = urllib.parse.urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, context=context, timeout=30)
        try:
            connection.request(method, target, body=body, headers=headers or {})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    return https


@pytest.fixture(scope="session")
def refused():
    """Performs a call that has to be refused; checks the status and the code."""
    from botocore.exceptions import ClientError

    def refused(status, code, call, *arguments, **keywords):
        with pytest.raises(ClientError) as caught:
            call(*arguments, **keywords)
        answer = caught.value.response
        assert (answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]) == (status, code), answer
        return answer

    return refused

