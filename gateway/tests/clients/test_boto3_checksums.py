"""boto3: checksums, sent as a trailer by default; digests that are wrong."""

import base64
import hashlib
import os
import zlib

import pytest

from inputs import MIB

HELLO = {
    "CRC32": "NhCmhg==",
    "CRC32C": "mnG7TA==",
    "CRC64NVME": "M3eFcAZSQlc=",
    "SHA1": base64.b64encode(hashlib.sha1(b"hello").digest()).decode(),
    "SHA256": base64.b64encode(hashlib.sha256(b"hello").digest()).decode(),
}
# botocore computes these itself; the others need an extension that it does not bring.
COMPUTED = ["CRC32", "SHA1", "SHA256"]


def stored(s3, bucket, key="k"):
    return s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")


@pytest.mark.parametrize("algorithm", COMPUTED)
def test_computed_by_the_client_and_sent_as_a_trailer(s3, bucket, algorithm):
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"hello", ChecksumAlgorithm=algorithm)
    assert put[f"Checksum{algorithm}"] == HELLO[algorithm]
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == b"hello"
    for answer in (got, stored(s3, bucket)):
        assert answer[f"Checksum{algorithm}"] == HELLO[algorithm]
        assert answer["ChecksumType"] == "FULL_OBJECT"
    # The framing of the upload is not part of the object.
    assert "ContentEncoding" not in got


@pytest.mark.parametrize("algorithm", HELLO)
def test_given_as_a_header(s3, bucket, algorithm):
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"hello", **{f"Checksum{algorithm}": HELLO[algorithm]})
    assert put[f"Checksum{algorithm}"] == HELLO[algorithm]
    assert stored(s3, bucket)[f"Checksum{algorithm}"] == HELLO[algorithm]


@pytest.mark.parametrize("algorithm", HELLO)
def test_a_wrong_one_stores_nothing(s3, gateway, bucket, refused, algorithm):
    wrong = base64.b64encode(bytes(len(base64.b64decode(HELLO[algorithm])))).decode()
    put = {"Bucket": bucket, "Key": "k", "Body": b"hello", f"Checksum{algorithm}": wrong}
    refused(400, "BadDigest", s3.put_object, **put)
    refused(404, "404", s3.head_object, Bucket=bucket, Key="k")
    assert not gateway.file(bucket, "k").exists()


@pytest.mark.parametrize("algorithm", HELLO)
def test_a_malformed_one_is_refused(s3, bucket, refused, algorithm):
    put = {"Bucket": bucket, "Key": "k", "Body": b"hello", f"Checksum{algorithm}": "AAAA"}
    refused(400, "InvalidRequest", s3.put_object, **put)


def test_content_md5(s3, bucket, refused):
    right = base64.b64encode(hashlib.md5(b"hello").digest()).decode()
    wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    s3.put_object(Bucket=bucket, Key="k", Body=b"hello", ContentMD5=right)
    refused(400, "BadDigest", s3.put_object, Bucket=bucket, Key="k", Body=b"changed", ContentMD5=wrong)
    refused(400, "InvalidDigest", s3.put_object, Bucket=bucket, Key="k", Body=b"changed", ContentMD5="no digest")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"hello"


def test_none_sent_makes_the_gateway_compute_one(make_s3, bucket):
    bare = make_s3(request_checksum_calculation="when_required")
    bare.put_object(Bucket=bucket, Key="k", Body=b"hello")
    head = stored(bare, bucket)
    assert (head["ChecksumCRC64NVME"], head["ChecksumType"]) == (HELLO["CRC64NVME"], "FULL_OBJECT")


def test_not_told_unless_asked(make_s3, bucket):
    bare = make_s3(response_checksum_validation="when_required")
    bare.put_object(Bucket=bucket, Key="k", Body=b"hello")
    assert "ChecksumCRC32" not in bare.head_object(Bucket=bucket, Key="k")


def test_copies_keep_or_recompute(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"hello", ChecksumAlgorithm="SHA1")
    source = {"Bucket": bucket, "Key": "k"}
    s3.copy_object(Bucket=bucket, Key="kept", CopySource=source)
    s3.copy_object(Bucket=bucket, Key="new", CopySource=source, ChecksumAlgorithm="SHA256")
    assert stored(s3, bucket, "kept")["ChecksumSHA1"] == HELLO["SHA1"]
    assert stored(s3, bucket, "new")["ChecksumSHA256"] == HELLO["SHA256"]


def test_listings_name_the_algorithm(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"hello", ChecksumAlgorithm="SHA256")
    (entry,) = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert (entry["ChecksumAlgorithm"], entry["ChecksumType"]) == (["SHA256"], "FULL_OBJECT")


def multipart(s3, bucket, algorithm, kind, contents, **more):
    where = {"Bucket": bucket, "Key": "k"}
    begun = s3.create_multipart_upload(**where, ChecksumAlgorithm=algorithm, ChecksumType=kind)
    assert (begun["ChecksumAlgorithm"], begun["ChecksumType"]) == (algorithm, kind)
    where["UploadId"] = begun["UploadId"]
    field = f"Checksum{algorithm}"
    parts = []
    for number, content in enumerate(contents, 1):
        answer = s3.upload_part(**where, PartNumber=number, Body=content, ChecksumAlgorithm=algorithm)
        parts.append({"PartNumber": number, "ETag": answer["ETag"], field: answer[field]})
    listed = s3.list_parts(**where)
    assert (listed["ChecksumAlgorithm"], listed["ChecksumType"]) == (algorithm, kind)
    assert [part[field] for part in listed["Parts"]] == [part[field] for part in parts]
    done = s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts}, ChecksumType=kind, **more)
    return done[field], done["ChecksumType"]


@pytest.mark.parametrize("algorithm", COMPUTED)
def test_multipart_composite(s3, bucket, algorithm):
    contents = [os.urandom(5 * MIB), os.urandom(100)]
    digest = {
        "CRC32": lambda content: zlib.crc32(content).to_bytes(4, "big"),
        "SHA1": lambda content: hashlib.sha1(content).digest(),
        "SHA256": lambda content: hashlib.sha256(content).digest(),
    }[algorithm]
    expected = base64.b64encode(digest(b"".join(map(digest, contents)))).decode() + "-2"
    assert multipart(s3, bucket, algorithm, "COMPOSITE", contents) == (expected, "COMPOSITE")
    head = stored(s3, bucket)
    assert (head[f"Checksum{algorithm}"], head["ChecksumType"]) == (expected, "COMPOSITE")


def test_multipart_full_object(s3, bucket):
    contents = [os.urandom(5 * MIB), os.urandom(5 * MIB), os.urandom(100)]
    expected = base64.b64encode(zlib.crc32(b"".join(contents)).to_bytes(4, "big")).decode()
    done = multipart(s3, bucket, "CRC32", "FULL_OBJECT", contents, ChecksumCRC32=expected)
    assert done == (expected, "FULL_OBJECT")
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == b"".join(contents)
    assert (got["ChecksumCRC32"], got["ChecksumType"]) == (expected, "FULL_OBJECT")


def test_a_type_that_the_algorithm_cannot_have_is_refused(s3, bucket, refused):
    create = {"Bucket": bucket, "Key": "k"}
    refused(
        400, "InvalidRequest", s3.create_multipart_upload, **create, ChecksumAlgorithm="SHA256", ChecksumType="FULL_OBJECT"
    )
    refused(
        400, "InvalidRequest", s3.create_multipart_upload, **create, ChecksumAlgorithm="CRC64NVME", ChecksumType="COMPOSITE"
    )


def test_a_wrong_checksum_of_a_part_stores_no_part(s3, bucket, refused):
    where = {"Bucket": bucket, "Key": "k"}
    where["UploadId"] = s3.create_multipart_upload(**where, ChecksumAlgorithm="CRC32")["UploadId"]
    refused(400, "BadDigest", s3.upload_part, **where, PartNumber=1, Body=b"hello", ChecksumCRC32="AAAAAA==")
    assert "Parts" not in s3.list_parts(**where)


def test_the_transfer_manager_checks_what_it_uploads(s3, bucket, large):
    s3.upload_file(str(large), bucket, "k", ExtraArgs={"ChecksumAlgorithm": "SHA256"})
    assert stored(s3, bucket)["ChecksumSHA256"].endswith("-4")
    s3.upload_file(str(large), bucket, "k")
    head = stored(s3, bucket)
    assert head["ChecksumType"] == "FULL_OBJECT" or head["ChecksumCRC32"].endswith("-4")
