"""s3cmd, as `s3cmd --configure` would leave it."""

import pytest

from gateway import ACCESS_KEY_ID, SECRET_ACCESS_KEY
from inputs import KEYS


@pytest.fixture(scope="session")
def s3cmd_config(gateway, tmp_path_factory):
    path = tmp_path_factory.mktemp("s3cmd") / "s3cfg"
    path.write_text(
        f"""[default]
access_key = {ACCESS_KEY_ID}
secret_key = {SECRET_ACCESS_KEY}
host_base = 127.0.0.1:{gateway.port}
host_bucket = 127.0.0.1:{gateway.port}
bucket_location = us-east-1
use_https = True
ca_certs_file = {gateway.ca}
"""
    )
    return path


@pytest.fixture
def s3cmd(run, s3cmd_config):
    def s3cmd(*words, **more):
        return run("s3cmd", "-c", s3cmd_config, "--no-progress", *words, **more).decode()

    return s3cmd


def test_mb_ls_info_rb(s3cmd, bucket):
    own = f"s3://{bucket}-own"
    s3cmd("mb", own)
    assert own in s3cmd("ls")
    assert "Location" in s3cmd("info", own)
    s3cmd("rb", own)
    assert own not in s3cmd("ls")


def test_put_ls_get_cp_mv_del(s3cmd, gateway, bucket, small, tmp_path):
    s3cmd("put", small, f"s3://{bucket}/dir/stored.txt")
    assert gateway.file(bucket, "dir/stored.txt").read_bytes() == small.read_bytes()
    assert f"s3://{bucket}/dir/" in s3cmd("ls", f"s3://{bucket}")
    assert "1234" in s3cmd("ls", f"s3://{bucket}/dir/")
    s3cmd("get", f"s3://{bucket}/dir/stored.txt", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == small.read_bytes()
    # After cp and mv s3cmd sets the copy's ACL as XML; it says private, which the bucket is.
    s3cmd("cp", f"s3://{bucket}/dir/stored.txt", f"s3://{bucket}/copied.txt")
    s3cmd("mv", f"s3://{bucket}/copied.txt", f"s3://{bucket}/moved.txt")
    assert gateway.file(bucket, "moved.txt").read_bytes() == small.read_bytes()
    assert not gateway.file(bucket, "copied.txt").exists()
    assert "File size: 1234" in s3cmd("info", f"s3://{bucket}/moved.txt")
    s3cmd("del", f"s3://{bucket}/moved.txt")
    s3cmd("del", "--recursive", "--force", f"s3://{bucket}/dir/")
    assert s3cmd("ls", "--recursive", f"s3://{bucket}") == ""


def test_multipart_put_and_get(s3cmd, gateway, bucket, large, tmp_path):
    """Above 15 MiB s3cmd uploads parts, one after another."""
    s3cmd("put", large, f"s3://{bucket}/large")
    assert gateway.file(bucket, "large").read_bytes() == large.read_bytes()
    s3cmd("get", f"s3://{bucket}/large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == large.read_bytes()
    s3cmd("cp", f"s3://{bucket}/large", f"s3://{bucket}/large copy")
    assert gateway.file(bucket, "large copy").read_bytes() == large.read_bytes()
    assert "large" not in s3cmd("multipart", f"s3://{bucket}")


def test_multipart_copy(s3cmd, s3cmd_config, s3, gateway, bucket, large, tmp_path):
    """Above 1 GiB, here 5 MiB, s3cmd copies in parts: it creates an upload with the source's headers as it read them."""
    parts = tmp_path / "s3cfg"
    parts.write_text(f"{s3cmd_config.read_text()}multipart_copy_chunk_size_mb = 5\n")
    s3cmd("put", "--add-header=x-amz-meta-colour:blue", large, f"s3://{bucket}/large")
    s3cmd("-c", parts, "cp", f"s3://{bucket}/large", f"s3://{bucket}/copy")
    s3cmd("-c", parts, "mv", f"s3://{bucket}/large", f"s3://{bucket}/moved")
    for name in ("copy", "moved"):
        assert gateway.file(bucket, name).read_bytes() == large.read_bytes()
        head = s3.head_object(Bucket=bucket, Key=name)
        assert "-" in head["ETag"], "joined of parts"
        assert head["Metadata"]["colour"] == "blue"
    assert not gateway.file(bucket, "large").exists()


def test_sync_both_ways(s3cmd, gateway, bucket, tmp_path):
    source = tmp_path / "source"
    for key in KEYS:
        path = source / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(key)
    s3cmd("sync", f"{source}/", f"s3://{bucket}/tree/")
    for key in KEYS:
        assert gateway.file(bucket, f"tree/{key}").read_text() == key
    back = tmp_path / "back"
    back.mkdir()
    s3cmd("sync", f"s3://{bucket}/tree/", f"{back}/")
    for key in KEYS:
        assert (back / key).read_text() == key


def test_setacl_on_the_bucket(s3cmd, https, gateway, bucket, small):
    s3cmd("put", small, f"s3://{bucket}/a b.txt")
    s3cmd("setacl", "--acl-public", f"s3://{bucket}")
    assert "anon" in s3cmd("info", f"s3://{bucket}")
    assert https("GET", f"{gateway.endpoint}/{bucket}/a%20b.txt").body == small.read_bytes()
    s3cmd("setacl", "--acl-private", f"s3://{bucket}")
    assert "anon" not in s3cmd("info", f"s3://{bucket}")


def test_modify_changes_headers_in_place(s3cmd, s3, bucket, small):
    s3cmd("put", small, f"s3://{bucket}/m")
    s3cmd("modify", "--add-header=Cache-Control:no-cache", f"s3://{bucket}/m")
    head = s3.head_object(Bucket=bucket, Key="m")
    assert head["CacheControl"] == "no-cache"
    assert head["ContentLength"] == 1234


def test_du_and_la(s3cmd, bucket, small):
    s3cmd("put", small, f"s3://{bucket}/one", "--add-header=x-amz-meta-colour:blue")
    assert s3cmd("du", f"s3://{bucket}").split()[0] == "1234"
    assert f"s3://{bucket}/one" in s3cmd("la")


def test_what_is_deleted_is_hidden_and_the_bucket_stays(s3cmd, s3, bucket, small):
    s3cmd("put", small, f"s3://{bucket}/k")
    s3cmd("del", f"s3://{bucket}/k")
    assert s3cmd("ls", f"s3://{bucket}") == ""
    listed = s3.list_object_versions(Bucket=bucket)
    assert [len(listed[what]) for what in ("Versions", "DeleteMarkers")] == [1, 1]
    assert "BucketNotEmpty" in s3cmd("rb", f"s3://{bucket}", ok=False)
