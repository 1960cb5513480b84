"""restic: a repository in a bucket, backed up, checked, restored, pruned."""

import json
import random

import pytest

from conftest import empty_and_delete
from inputs import MIB


@pytest.fixture
def restic(run, gateway, bucket):
    def restic(*words, **more):
        repository = f"s3:{gateway.endpoint}/{bucket}/repo"
        return run("restic", "--cacert", gateway.ca, "-r", repository, *words, RESTIC_PASSWORD="secret", **more).decode()

    return restic


def test_backup_check_restore_and_prune(restic, gateway, bucket, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    noise = random.Random(3)
    for name, size in [("large", 20 * MIB), ("a b+c&d=e<f>", 1000), ("日本語", 5), ("empty", 0)]:
        (source / name).write_bytes(noise.randbytes(size))
    restic("init")
    restic("backup", source)
    (source / "large").write_bytes(noise.randbytes(3 * MIB))
    restic("backup", source)
    assert len(json.loads(restic("snapshots", "--json"))) == 2
    restic("check", "--read-data")
    restic("restore", "latest", "--target", tmp_path / "back")
    for path in source.iterdir():
        assert (tmp_path / "back" / source.relative_to("/") / path.name).read_bytes() == path.read_bytes()
    restic("forget", "--keep-last", "1", "--prune")
    restic("check", "--read-data")
    assert gateway.file(bucket, "repo/config").is_file()


def test_a_wrong_password_opens_nothing(restic, run, gateway, bucket):
    restic("init")
    repository = f"s3:{gateway.endpoint}/{bucket}/repo"
    said = run("restic", "--cacert", gateway.ca, "-r", repository, "snapshots", ok=False, RESTIC_PASSWORD="wrong")
    assert b"wrong password" in said


def test_it_makes_its_bucket_itself(run, gateway, bucket, s3):
    own = f"{bucket}-own"
    repository = f"s3:{gateway.endpoint}/{own}"
    run("restic", "--cacert", gateway.ca, "-r", repository, "init", RESTIC_PASSWORD="secret")
    empty_and_delete(s3, own)
