"""The aws command line, `s3` and `s3api`."""

import json
import os

import pytest

from inputs import KEYS, MIB


@pytest.fixture
def aws(run, clients):
    def aws(*words, **more):
        return run(clients / "python" / "bin" / "aws", *words, **more).decode()

    return aws


def test_mb_ls_rb(aws, bucket):
    own = f"s3://{bucket}-own"
    aws("s3", "mb", own)
    assert f"{bucket}-own" in aws("s3", "ls")
    aws("s3", "rb", own)
    assert f"{bucket}-own" not in aws("s3", "ls")


def test_cp_ls_mv_rm(aws, gateway, bucket, small, tmp_path):
    aws("s3", "cp", small, f"s3://{bucket}/dir/stored.txt")
    assert gateway.file(bucket, "dir/stored.txt").read_bytes() == small.read_bytes()
    assert "PRE dir/" in aws("s3", "ls", f"s3://{bucket}")
    assert "1234 stored.txt" in aws("s3", "ls", f"s3://{bucket}/dir/")
    aws("s3", "cp", f"s3://{bucket}/dir/stored.txt", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == small.read_bytes()
    aws("s3", "cp", f"s3://{bucket}/dir/stored.txt", f"s3://{bucket}/copied.txt")
    aws("s3", "mv", f"s3://{bucket}/copied.txt", f"s3://{bucket}/moved.txt")
    assert gateway.file(bucket, "moved.txt").read_bytes() == small.read_bytes()
    aws("s3", "rm", f"s3://{bucket}", "--recursive")
    assert aws("s3", "ls", f"s3://{bucket}", "--recursive") == ""


def test_cp_from_standard_input(aws, gateway, bucket):
    aws("s3", "cp", "-", f"s3://{bucket}/streamed", input=b"from a pipe")
    assert gateway.file(bucket, "streamed").read_bytes() == b"from a pipe"


def test_multipart_cp_and_back(aws, gateway, bucket, large, tmp_path):
    """Above 8 MiB the aws command line uploads parts, downloads ranges and copies parts, all in parallel."""
    aws("s3", "cp", large, f"s3://{bucket}/large")
    assert gateway.file(bucket, "large").read_bytes() == large.read_bytes()
    head = json.loads(aws("s3api", "head-object", "--bucket", bucket, "--key", "large"))
    assert head["ETag"].endswith('-4"')
    aws("s3", "cp", f"s3://{bucket}/large", f"s3://{bucket}/large copy")
    assert gateway.file(bucket, "large copy").read_bytes() == large.read_bytes()
    aws("s3", "cp", f"s3://{bucket}/large copy", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == large.read_bytes()


def test_sync_both_ways(aws, gateway, bucket, tmp_path):
    source = tmp_path / "source"
    for key in KEYS:
        path = source / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(key)
        # Last-Modified has whole seconds: a file of this very second would look newer than its object.
        os.utime(path, (1e9, 1e9))
    aws("s3", "sync", source, f"s3://{bucket}/tree")
    for key in KEYS:
        assert gateway.file(bucket, f"tree/{key}").read_text() == key
    assert aws("s3", "sync", source, f"s3://{bucket}/tree") == ""
    aws("s3", "sync", f"s3://{bucket}/tree", tmp_path / "back")
    for key in KEYS:
        assert (tmp_path / "back" / key).read_text() == key
    (source / KEYS[0]).unlink()
    aws("s3", "sync", "--delete", source, f"s3://{bucket}/tree")
    assert not gateway.file(bucket, f"tree/{KEYS[0]}").exists()


def test_presign(aws, https, bucket, tmp_path):
    """Left alone, this client presigns with signature v2; the T2 API knows v4 only, and the README says how to ask for it."""
    aws("s3", "cp", "-", f"s3://{bucket}/a b+c&d=e.txt", input=b"linked")
    (tmp_path / "config").write_text("[default]\ns3 =\n    signature_version = s3v4\n")
    command = ["s3", "presign", f"s3://{bucket}/a b+c&d=e.txt"]
    fetched = https("GET", aws(*command, AWS_CONFIG_FILE=str(tmp_path / "config")).strip())
    assert (fetched.status, fetched.body) == (200, b"linked"), fetched.body
    fetched = https("GET", aws(*command).strip())
    assert fetched.status == 400 and b"AWS4-HMAC-SHA256" in fetched.body


def test_s3api_put_get_with_checksum(aws, bucket, small, tmp_path):
    put = ["s3api", "put-object", "--bucket", bucket, "--key", "k", "--body", small]
    answer = json.loads(aws(*put, "--checksum-algorithm", "SHA256", "--metadata", "colour=blue"))
    assert answer["ChecksumSHA256"]
    got = json.loads(aws("s3api", "get-object", "--bucket", bucket, "--key", "k", tmp_path / "k"))
    assert got["Metadata"] == {"colour": "blue"}
    assert (tmp_path / "k").read_bytes() == small.read_bytes()


def test_s3api_bucket_reads(aws, bucket):
    assert json.loads(aws("s3api", "get-bucket-location", "--bucket", bucket)) == {"LocationConstraint": None}
    assert json.loads(aws("s3api", "get-bucket-versioning", "--bucket", bucket)) == {"Status": "Enabled"}
    grants = json.loads(aws("s3api", "get-bucket-acl", "--bucket", bucket))["Grants"]
    assert [grant["Permission"] for grant in grants] == ["FULL_CONTROL"]


def test_versions_are_listed_read_and_restored(aws, bucket, tmp_path):
    def store(text):
        path = tmp_path / "in"
        path.write_text(text)
        return json.loads(aws("s3api", "put-object", "--bucket", bucket, "--key", "k", "--body", path))["VersionId"]

    first, second = store("first"), store("second")
    aws("s3", "rm", f"s3://{bucket}/k")
    assert aws("s3", "ls", f"s3://{bucket}") == ""
    listed = json.loads(aws("s3api", "list-object-versions", "--bucket", bucket, "--page-size", "1"))
    assert [(entry["VersionId"], entry["IsLatest"]) for entry in listed["Versions"]] == [(second, False), (first, False)]
    (marker,) = listed["DeleteMarkers"]
    assert marker["IsLatest"]
    by_id = ["--bucket", bucket, "--key", "k", "--version-id"]
    aws("s3api", "get-object", *by_id, first, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "first"
    removed = json.loads(aws("s3api", "delete-object", *by_id, marker["VersionId"]))
    assert removed == {"DeleteMarker": True, "VersionId": marker["VersionId"]}
    assert aws("s3", "cp", f"s3://{bucket}/k", "-") == "second"
    source = f"{bucket}/k?versionId={first}"
    copied = json.loads(aws("s3api", "copy-object", "--bucket", bucket, "--key", "k", "--copy-source", source))
    assert copied["CopySourceVersionId"] == first
    assert aws("s3", "cp", f"s3://{bucket}/k", "-") == "first"


def test_rb_with_force_leaves_a_bucket_that_keeps_versions(aws, bucket):
    """As at Amazon: it deletes by name, and what it hides is kept."""
    aws("s3", "cp", "-", f"s3://{bucket}/k", input=b"x")
    assert "BucketNotEmpty" in aws("s3", "rb", "--force", f"s3://{bucket}", ok=False)


def test_list_by_pages(aws, bucket):
    for number in range(5):
        aws("s3api", "put-object", "--bucket", bucket, "--key", f"k{number}")
    listed = json.loads(aws("s3api", "list-objects-v2", "--bucket", bucket, "--page-size", "2"))
    assert [entry["Key"] for entry in listed["Contents"]] == [f"k{number}" for number in range(5)]


def test_a_missing_bucket_is_named(aws):
    said = aws("s3", "ls", "s3://no-such-bucket-here", ok=False)
    assert "NoSuchBucket" in said


def test_a_wrong_secret_is_refused(aws, bucket):
    said = aws("s3", "ls", f"s3://{bucket}", ok=False, AWS_SECRET_ACCESS_KEY="wrong")
    assert "SignatureDoesNotMatch" in said


def test_get_resumes_at_a_range(aws, bucket, small, tmp_path):
    aws("s3", "cp", small, f"s3://{bucket}/r")
    wanted = ["s3api", "get-object", "--bucket", bucket, "--key", "r", "--range", "bytes=-34", tmp_path / "end"]
    assert json.loads(aws(*wanted))["ContentRange"] == "bytes 1200-1233/1234"
    assert (tmp_path / "end").read_bytes() == small.read_bytes()[1200:]


def test_a_file_laid_into_the_tree_is_an_object(aws, gateway, bucket):
    gateway.file(bucket, "foreign").mkdir()
    (gateway.file(bucket, "foreign") / "file.bin").write_bytes(b"x" * MIB)
    assert "1048576 foreign/file.bin" in aws("s3", "ls", "--recursive", f"s3://{bucket}")
    assert aws("s3", "cp", f"s3://{bucket}/foreign/file.bin", "-") == "x" * MIB
    # A directory that the gateway did not make is not its to remove.
    aws("s3", "rm", f"s3://{bucket}/foreign/file.bin")
    gateway.file(bucket, "foreign").rmdir()
