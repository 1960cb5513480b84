"""rclone: its S3 backend with provider Other, which is what an unknown store is."""

import json

import pytest

from gateway import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY
from inputs import KEYS


@pytest.fixture
def rclone(run, clients, gateway):
    remote = {
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_CA_CERT": str(gateway.ca),
        "RCLONE_CONFIG_T2_TYPE": "s3",
        "RCLONE_CONFIG_T2_PROVIDER": "Other",
        "RCLONE_CONFIG_T2_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "RCLONE_CONFIG_T2_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        "RCLONE_CONFIG_T2_ENDPOINT": gateway.endpoint,
        "RCLONE_CONFIG_T2_REGION": REGION,
    }

    def rclone(*words, **more):
        return run(clients / "python" / "bin" / "rclone", *words, **remote, **more).decode()

    return rclone


def test_mkdir_lsd_rmdir(rclone, bucket):
    rclone("mkdir", f"t2:{bucket}-own")
    assert f"{bucket}-own" in rclone("lsd", "t2:")
    rclone("rmdir", f"t2:{bucket}-own")
    assert f"{bucket}-own" not in rclone("lsd", "t2:")


def test_copy_list_read_copy_delete(rclone, gateway, bucket, small, tmp_path):
    rclone("copyto", small, f"t2:{bucket}/dir/stored.txt")
    assert gateway.file(bucket, "dir/stored.txt").read_bytes() == small.read_bytes()
    listed = json.loads(rclone("lsjson", "--recursive", "--files-only", f"t2:{bucket}"))
    assert [(entry["Path"], entry["Size"]) for entry in listed] == [("dir/stored.txt", 1234)]
    rclone("copyto", f"t2:{bucket}/dir/stored.txt", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == small.read_bytes()
    rclone("copyto", f"t2:{bucket}/dir/stored.txt", f"t2:{bucket}/copied.txt")
    rclone("moveto", f"t2:{bucket}/copied.txt", f"t2:{bucket}/moved.txt")
    assert gateway.file(bucket, "moved.txt").read_bytes() == small.read_bytes()
    assert not gateway.file(bucket, "copied.txt").exists()
    rclone("deletefile", f"t2:{bucket}/moved.txt")
    assert rclone("lsf", f"t2:{bucket}") == "dir/\n"
    # The time is in the metadata; a change of it alone is a copy of the object onto itself.
    rclone("touch", "--timestamp", "2001-02-03T04:05:06", f"t2:{bucket}/dir/stored.txt")
    assert "2001-02-03" in rclone("lsl", f"t2:{bucket}")


def test_sync_check_and_purge(rclone, gateway, bucket, tmp_path):
    source = tmp_path / "source"
    for key in KEYS:
        path = source / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(key)
    rclone("sync", source, f"t2:{bucket}/tree")
    for key in KEYS:
        assert gateway.file(bucket, f"tree/{key}").read_text() == key
    rclone("check", source, f"t2:{bucket}/tree")
    rclone("check", "--download", source, f"t2:{bucket}/tree")
    rclone("sync", f"t2:{bucket}/tree", tmp_path / "back")
    for key in KEYS:
        assert (tmp_path / "back" / key).read_text() == key
    rclone("delete", f"t2:{bucket}/tree")
    assert rclone("lsf", "--recursive", "--files-only", f"t2:{bucket}") == ""


def test_multipart_with_parallel_parts(rclone, gateway, bucket, large, tmp_path):
    parts = ["--s3-upload-cutoff", "5M", "--s3-chunk-size", "5M", "--s3-upload-concurrency", "4"]
    rclone("copyto", *parts, large, f"t2:{bucket}/large")
    assert gateway.file(bucket, "large").read_bytes() == large.read_bytes()
    rclone("copyto", "--s3-copy-cutoff", "8M", f"t2:{bucket}/large", f"t2:{bucket}/large copy")
    assert gateway.file(bucket, "large copy").read_bytes() == large.read_bytes()
    rclone("copyto", f"t2:{bucket}/large copy", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == large.read_bytes()


def test_upload_of_unknown_length(rclone, gateway, bucket, large):
    rclone("rcat", "--s3-chunk-size", "5M", f"t2:{bucket}/streamed", input=large.read_bytes())
    assert gateway.file(bucket, "streamed").read_bytes() == large.read_bytes()


def test_link_is_a_presigned_url(rclone, https, s3, bucket):
    s3.put_object(Bucket=bucket, Key="a b+c.txt", Body=b"linked")
    fetched = https("GET", rclone("link", f"t2:{bucket}/a b+c.txt").strip())
    assert (fetched.status, fetched.body) == (200, b"linked"), fetched.body


def test_purge_removes_the_bucket(rclone, s3, bucket):
    own = f"{bucket}-own"
    s3.create_bucket(Bucket=own)
    for number in range(3):
        s3.put_object(Bucket=own, Key=f"dir/{number}", Body=b"x")
        s3.put_object(Bucket=own, Key=f"dir/{number}", Body=b"newer")
    s3.delete_object(Bucket=own, Key="dir/0")
    rclone("purge", f"t2:{own}")
    assert own not in rclone("lsf", "t2:")


def test_versioning_is_switched_and_told(rclone, bucket):
    assert "Enabled" in rclone("backend", "versioning", f"t2:{bucket}")
    rclone("backend", "versioning", f"t2:{bucket}", "Suspended")
    assert "Suspended" in rclone("backend", "versioning", f"t2:{bucket}")
    rclone("backend", "versioning", f"t2:{bucket}", "Enabled")


def test_old_versions_are_listed_read_and_cleaned_up(rclone, s3, bucket):
    s3.put_object(Bucket=bucket, Key="dir/k.txt", Body=b"older")
    s3.put_object(Bucket=bucket, Key="dir/k.txt", Body=b"newest")
    s3.put_object(Bucket=bucket, Key="gone.txt", Body=b"gone")
    rclone("deletefile", f"t2:{bucket}/gone.txt")
    assert rclone("lsf", "--recursive", "--files-only", f"t2:{bucket}") == "dir/k.txt\n"
    named = rclone("lsf", "--recursive", "--files-only", "--s3-versions", f"t2:{bucket}").split()
    (older,) = [name for name in named if name.startswith("dir/k-v")]
    (gone,) = [name for name in named if name.startswith("gone-v")]
    assert rclone("cat", "--s3-versions", f"t2:{bucket}/{older}") == "older"
    assert rclone("cat", "--s3-versions", f"t2:{bucket}/{gone}") == "gone"
    assert rclone("cat", f"t2:{bucket}/dir/k.txt") == "newest"
    rclone("backend", "cleanup-hidden", f"t2:{bucket}")
    left = s3.list_object_versions(Bucket=bucket)
    assert [entry["Key"] for entry in left["Versions"] if not entry["IsLatest"]] == []
    assert rclone("cat", f"t2:{bucket}/dir/k.txt") == "newest"
