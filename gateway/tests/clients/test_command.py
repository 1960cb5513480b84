"""The command line as a newcomer meets it: the first start prints what to paste, the second finds everything again."""

import os
import subprocess

import boto3

from gateway import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, Gateway


def test_a_second_start_finds_everything_again(tmp_path):
    def client(running):
        return boto3.client(
            "s3",
            endpoint_url=running.endpoint,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
            verify=str(running.ca),
        )

    first = Gateway(tmp_path)
    try:
        client(first).create_bucket(Bucket="kept")
        client(first).put_object(Bucket="kept", Key="k", Body=b"x", Metadata={"n": "1"})
        authority = first.ca.read_bytes()
    finally:
        assert first.stop() == 0
    second = Gateway(tmp_path)
    try:
        assert second.ca.read_bytes() == authority
        got = client(second).get_object(Bucket="kept", Key="k")
        assert (got["Body"].read(), got["Metadata"]) == (b"x", {"n": "1"})
    finally:
        assert second.stop() == 0


def test_a_second_gateway_over_the_same_tree_is_refused(gateway):
    command = [os.environ["T2_GATEWAY"], "serve", "--data", str(gateway.data), "--listen", "127.0.0.1:0"]
    done = subprocess.run([*command, "--admin-listen", "127.0.0.1:0"], capture_output=True, timeout=30)
    assert done.returncode != 0 and b"another process" in done.stderr


def test_a_wrong_configuration_is_one_error_with_code_two(tmp_path):
    config = tmp_path / "t2gate.toml"
    config.write_text("no_such_key = 1\n")
    done = subprocess.run(
        [os.environ["T2_GATEWAY"], "check", "--config", str(config)], capture_output=True, timeout=30, text=True
    )
    assert done.returncode == 2
    assert "no_such_key" in done.stderr and "t2gate.toml" in done.stderr


def test_dialect_aws_answers_as_amazon_does(tmp_path, refused):
    running = Gateway(tmp_path, ["--dialect", "aws"])
    try:
        s3 = boto3.client(
            "s3",
            endpoint_url=running.endpoint,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key="wrong",
            verify=str(running.ca),
        )
        refused(403, "SignatureDoesNotMatch", s3.list_buckets)
    finally:
        assert running.stop() == 0
