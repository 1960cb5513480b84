"""boto3: objects, one by one and many at a time."""

import concurrent.futures
import datetime
import hashlib
import os

import pytest

from conftest import empty_and_delete
from inputs import KEYS, MIB

# Keys that no plain file can hold under its own name, or that a careless server folds into another.
AWKWARD_KEYS = ["double//slash", "/leading", "trailing/", "dot/./dot", "up/../../up", "..", ".", " space at the ends ", "x" * 1024]


def read(s3, bucket, key, **more):
    return s3.get_object(Bucket=bucket, Key=key, **more)["Body"].read()


def etag_of(content):
    return f'"{hashlib.md5(content).hexdigest()}"'


def test_put_get_head_delete(s3, gateway, bucket):
    content = b"what was stored"
    put = s3.put_object(Bucket=bucket, Key="dir/key", Body=content)
    assert put["ETag"] == etag_of(content)
    assert gateway.file(bucket, "dir/key").read_bytes() == content
    got = s3.get_object(Bucket=bucket, Key="dir/key")
    assert got["Body"].read() == content
    head = s3.head_object(Bucket=bucket, Key="dir/key")
    for answer in (got, head):
        assert answer["ETag"] == etag_of(content)
        assert answer["ContentLength"] == len(content)
        assert answer["ContentType"] == "binary/octet-stream"
        assert answer["AcceptRanges"] == "bytes"
        assert answer["ResponseMetadata"]["HTTPHeaders"]["x-amz-request-id"]
        age = datetime.datetime.now(datetime.timezone.utc) - answer["LastModified"]
        assert datetime.timedelta(seconds=-2) < age < datetime.timedelta(seconds=60)
    deleted = s3.delete_object(Bucket=bucket, Key="dir/key")
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert not gateway.file(bucket, "dir/key").exists()


def test_an_empty_object(s3, gateway, bucket):
    s3.put_object(Bucket=bucket, Key="empty", Body=b"")
    assert read(s3, bucket, "empty") == b""
    assert s3.head_object(Bucket=bucket, Key="empty")["ContentLength"] == 0
    assert gateway.file(bucket, "empty").stat().st_size == 0


def test_overwriting_replaces_bytes_and_metadata(s3, gateway, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"a longer first content", Metadata={"colour": "blue"})
    s3.put_object(Bucket=bucket, Key="k", Body=b"second")
    got = s3.get_object(Bucket=bucket, Key="k")
    assert (got["Body"].read(), got["Metadata"], got["ETag"]) == (b"second", {}, etag_of(b"second"))
    assert gateway.file(bucket, "k").read_bytes() == b"second"


def test_content_headers_and_user_metadata_come_back(s3, bucket):
    headers = {
        "ContentType": "text/html; charset=utf-8",
        "ContentEncoding": "gzip",
        "ContentDisposition": 'attachment; filename="a b.html"',
        "ContentLanguage": "de-DE",
        "CacheControl": "max-age=60",
    }
    expires = datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    metadata = {"colour": "blue", "shade": "dark, not black", "with-dash": "1"}
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata=metadata, Expires=expires, **headers)
    for answer in (s3.get_object(Bucket=bucket, Key="k"), s3.head_object(Bucket=bucket, Key="k")):
        assert {name: answer[name] for name in headers} == headers
        assert answer["Metadata"] == metadata
        assert answer["ExpiresString"] == "Wed, 02 Jan 2030 03:04:05 GMT"


def test_too_much_user_metadata_is_refused(s3, bucket, refused):
    refused(400, "MetadataTooLarge", s3.put_object, Bucket=bucket, Key="k", Body=b"x", Metadata={"a": "x" * 2100})


def test_response_headers_can_be_overridden(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    got = s3.get_object(Bucket=bucket, Key="k", ResponseContentType="text/x-asked", ResponseCacheControl="no-store")
    assert (got["ContentType"], got["CacheControl"]) == ("text/x-asked", "no-store")


@pytest.mark.parametrize(
    "asked, first, last",
    [("bytes=0-0", 0, 0), ("bytes=10-19", 10, 19), ("bytes=90-", 90, 99), ("bytes=-7", 93, 99), ("bytes=50-5000", 50, 99)],
)
def test_range(s3, bucket, asked, first, last):
    content = bytes(range(100))
    s3.put_object(Bucket=bucket, Key="k", Body=content)
    got = s3.get_object(Bucket=bucket, Key="k", Range=asked)
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert got["ContentRange"] == f"bytes {first}-{last}/100"
    assert got["Body"].read() == content[first : last + 1]


@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=1000-2000", "bytes=-0"])
def test_a_range_beyond_the_end_is_416(s3, bucket, refused, asked):
    s3.put_object(Bucket=bucket, Key="k", Body=bytes(100))
    refused(416, "InvalidRange", s3.get_object, Bucket=bucket, Key="k", Range=asked)


def test_a_range_of_an_empty_object_is_416(s3, bucket, refused):
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    refused(416, "InvalidRange", s3.get_object, Bucket=bucket, Key="k", Range="bytes=0-")


@pytest.mark.parametrize("asked", ["bytes=0-1,4-5", "lines=1-2", "bytes=5-2"])
def test_a_range_that_is_not_one_range_is_ignored(s3, bucket, asked):
    s3.put_object(Bucket=bucket, Key="k", Body=b"whole")
    got = s3.get_object(Bucket=bucket, Key="k", Range=asked)
    assert (got["ResponseMetadata"]["HTTPStatusCode"], got["Body"].read()) == (200, b"whole")


def test_conditional_reads(s3, bucket, refused):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    modified = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    before, after = modified - datetime.timedelta(hours=1), modified + datetime.timedelta(hours=1)
    where = {"Bucket": bucket, "Key": "k"}
    assert read(s3, bucket, "k", IfMatch=etag) == b"x"
    assert read(s3, bucket, "k", IfNoneMatch='"other"') == b"x"
    assert read(s3, bucket, "k", IfModifiedSince=before) == b"x"
    assert read(s3, bucket, "k", IfUnmodifiedSince=after) == b"x"
    refused(412, "PreconditionFailed", s3.get_object, **where, IfMatch='"other"')
    refused(412, "PreconditionFailed", s3.get_object, **where, IfUnmodifiedSince=before)
    refused(304, "304", s3.get_object, **where, IfNoneMatch=etag)
    refused(304, "304", s3.get_object, **where, IfModifiedSince=modified)
    refused(304, "304", s3.head_object, **where, IfNoneMatch=etag)
    refused(412, "412", s3.head_object, **where, IfMatch='"other"')
    # An ETag decides before a date does.
    assert read(s3, bucket, "k", IfMatch=etag, IfUnmodifiedSince=before) == b"x"
    assert read(s3, bucket, "k", IfNoneMatch='"other"', IfModifiedSince=modified) == b"x"


def test_conditional_writes(s3, bucket, refused):
    def put(body, **condition):
        return s3.put_object(Bucket=bucket, Key="k", Body=body, **condition)

    refused(404, "NoSuchKey", put, b"0", IfMatch='"anything"')
    first = put(b"1", IfNoneMatch="*")["ETag"]
    refused(412, "PreconditionFailed", put, b"2", IfNoneMatch="*")
    second = put(b"3", IfMatch=first)["ETag"]
    refused(412, "PreconditionFailed", put, b"4", IfMatch=first)
    assert read(s3, bucket, "k") == b"3"
    refused(412, "PreconditionFailed", s3.delete_object, Bucket=bucket, Key="k", IfMatch=first)
    s3.delete_object(Bucket=bucket, Key="k", IfMatch=second)
    refused(404, "404", s3.head_object, Bucket=bucket, Key="k")


def test_of_many_conditional_creations_one_wins(s3, bucket):
    def create(number):
        try:
            s3.put_object(Bucket=bucket, Key="k", Body=b"%d" % number, IfNoneMatch="*")
            return number
        except s3.exceptions.ClientError as error:
            assert error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict")
            return None

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(create, range(32)) if number is not None]
    assert len(winners) == 1
    assert read(s3, bucket, "k") == b"%d" % winners[0]


def test_copy_keeps_or_replaces_metadata(s3, gateway, bucket):
    s3.put_object(Bucket=bucket, Key="a b+c", Body=b"bytes", ContentType="text/x-one", Metadata={"n": "1"})
    source = {"Bucket": bucket, "Key": "a b+c"}
    answer = s3.copy_object(Bucket=bucket, Key="kept", CopySource=source)
    assert answer["CopyObjectResult"]["ETag"] == etag_of(b"bytes")
    s3.copy_object(
        Bucket=bucket,
        Key="replaced",
        CopySource=source,
        MetadataDirective="REPLACE",
        Metadata={"n": "2"},
        ContentType="text/x-two",
    )
    kept, replaced = (s3.get_object(Bucket=bucket, Key=key) for key in ("kept", "replaced"))
    assert (kept["ContentType"], kept["Metadata"], kept["Body"].read()) == ("text/x-one", {"n": "1"}, b"bytes")
    assert (replaced["ContentType"], replaced["Metadata"], replaced["Body"].read()) == ("text/x-two", {"n": "2"}, b"bytes")
    assert gateway.file(bucket, "kept").read_bytes() == b"bytes"


def test_copy_onto_itself_needs_a_change(s3, bucket, refused):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata={"n": "1"})
    source = {"Bucket": bucket, "Key": "k"}
    refused(400, "InvalidRequest", s3.copy_object, Bucket=bucket, Key="k", CopySource=source)
    s3.copy_object(Bucket=bucket, Key="k", CopySource=source, MetadataDirective="REPLACE", Metadata={"n": "2"})
    got = s3.get_object(Bucket=bucket, Key="k")
    assert (got["Metadata"], got["Body"].read()) == ({"n": "2"}, b"x")


def test_copy_between_buckets_and_its_refusals(s3, bucket, refused):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    source = {"Bucket": bucket, "Key": "k"}

    def copy(**more):
        return s3.copy_object(**{"Bucket": bucket, "Key": "to", "CopySource": source} | more)

    other = f"{bucket}-2"
    s3.create_bucket(Bucket=other)
    copy(Bucket=other)
    assert read(s3, other, "to") == b"x"
    empty_and_delete(s3, other)
    refused(404, "NoSuchBucket", copy, Bucket=other)
    refused(404, "NoSuchKey", copy, CopySource={"Bucket": bucket, "Key": "missing"})
    refused(404, "NoSuchBucket", copy, CopySource={"Bucket": other, "Key": "k"})
    copy(CopySourceIfMatch=etag)
    refused(412, "PreconditionFailed", copy, CopySourceIfMatch='"other"')
    refused(412, "PreconditionFailed", copy, CopySourceIfNoneMatch=etag)


def test_a_missing_key_is_404(s3, bucket, refused):
    refused(404, "NoSuchKey", s3.get_object, Bucket=bucket, Key="missing")
    refused(404, "404", s3.head_object, Bucket=bucket, Key="missing")
    error = refused(404, "NoSuchKey", s3.delete_object, Bucket=bucket, Key="missing")
    assert error["Error"]["Resource"] == f"{bucket}/missing"


def test_delete_objects(s3, bucket):
    for key in KEYS:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    wanted = [{"Key": key} for key in [*KEYS, "missing"]]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": wanted})
    # A missing key counts as deleted here, so that bulk deletes can be repeated.
    assert sorted(entry["Key"] for entry in answer["Deleted"]) == sorted([*KEYS, "missing"])
    assert "Errors" not in answer
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_delete_objects_quietly(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}], "Quiet": True})
    assert "Deleted" not in answer and "Errors" not in answer
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_delete_objects_judges_each_etag(s3, bucket):
    etags = {key: s3.put_object(Bucket=bucket, Key=key, Body=key.encode())["ETag"] for key in ("a", "b")}
    wanted = [{"Key": "a", "ETag": etags["a"]}, {"Key": "b", "ETag": etags["a"]}]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": wanted})
    assert [entry["Key"] for entry in answer["Deleted"]] == ["a"]
    assert [(entry["Key"], entry["Code"]) for entry in answer["Errors"]] == [("b", "PreconditionFailed")]


def test_more_than_a_thousand_keys_at_once_are_refused(s3, bucket, refused):
    wanted = [{"Key": f"k{number}"} for number in range(1001)]
    refused(400, "MalformedXML", s3.delete_objects, Bucket=bucket, Delete={"Objects": wanted})


@pytest.mark.parametrize("key", KEYS)
def test_key(s3, gateway, bucket, key):
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert gateway.file(bucket, key).read_bytes() == key.encode()
    assert read(s3, bucket, key) == key.encode()
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    s3.copy_object(Bucket=bucket, Key=f"copy of {key}", CopySource={"Bucket": bucket, "Key": key})
    assert read(s3, bucket, f"copy of {key}") == key.encode()
    s3.delete_object(Bucket=bucket, Key=key)
    assert not gateway.file(bucket, key).exists()


@pytest.mark.parametrize("key", AWKWARD_KEYS, ids=lambda key: repr(key[:20]))
def test_awkward_key(s3, gateway, bucket, key):
    s3.put_object(Bucket=bucket, Key=key, Body=b"awkward")
    assert read(s3, bucket, key) == b"awkward"
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    for outside in (gateway.data, gateway.data.parent):
        assert not (outside / "up").exists()
    s3.delete_object(Bucket=bucket, Key=key)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_key_beside_what_it_is_a_directory_of(s3, bucket):
    for key in ("a", "a/b", "c/d", "c"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["a", "a/b", "c", "c/d"]
    for key in ("a", "a/b", "c/d", "c"):
        assert read(s3, bucket, key) == key.encode()


def test_bad_keys_are_refused(s3, bucket, refused):
    refused(400, "KeyTooLongError", s3.put_object, Bucket=bucket, Key="x" * 1025, Body=b"x")
    # The refusal names the key, and has to be XML all the same.
    refused(400, "InvalidArgument", s3.put_object, Bucket=bucket, Key="bell\a", Body=b"x")


def test_reserved_names_are_no_way_in(s3, gateway, bucket):
    s3.put_object(Bucket=bucket, Key=".t2/tls/ca.pem", Body=b"an object")
    assert read(s3, bucket, ".t2/tls/ca.pem") == b"an object"
    assert gateway.ca.read_bytes() != b"an object"
    assert b"BEGIN CERTIFICATE" in gateway.ca.read_bytes()


def test_a_file_laid_into_the_tree_is_an_object(s3, gateway, bucket, refused):
    path = gateway.file(bucket, "foreign/file")
    path.parent.mkdir()
    path.write_bytes(b"from elsewhere")
    assert read(s3, bucket, "foreign/file") == b"from elsewhere"
    head = s3.head_object(Bucket=bucket, Key="foreign/file")
    assert head["ETag"] != etag_of(b"from elsewhere") and "-" in head["ETag"]
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["foreign/file"]
    path.unlink()
    refused(404, "NoSuchKey", s3.get_object, Bucket=bucket, Key="foreign/file")
    # A directory that the gateway did not make is not its to remove.
    path.parent.rmdir()


def test_symbolic_links_lead_nowhere(s3, gateway, bucket, refused):
    os.symlink("/etc", gateway.file(bucket, "out"))
    refused(404, "NoSuchKey", s3.get_object, Bucket=bucket, Key="out/hostname")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    gateway.file(bucket, "out").unlink()


def test_a_large_body_in_one_put(s3, gateway, bucket, large):
    with large.open("rb") as body:
        s3.put_object(Bucket=bucket, Key="large", Body=body)
    assert gateway.file(bucket, "large").read_bytes() == large.read_bytes()
    assert read(s3, bucket, "large") == large.read_bytes()


def test_many_objects_at_once(s3, bucket):
    def round_trip(number):
        content = os.urandom(number * 1000)
        s3.put_object(Bucket=bucket, Key=f"many/{number:03}", Body=content)
        return read(s3, bucket, f"many/{number:03}") == content

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert all(pool.map(round_trip, range(200)))
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 200


def test_transfer_manager_round_trip(s3, gateway, bucket, large, tmp_path):
    """upload_file and download_file at their defaults: parts of 8 MiB, ten at a time."""
    s3.upload_file(str(large), bucket, "large")
    assert s3.head_object(Bucket=bucket, Key="large")["ETag"].endswith('-4"')
    assert gateway.file(bucket, "large").read_bytes() == large.read_bytes()
    s3.download_file(bucket, "large", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == large.read_bytes()
    s3.copy({"Bucket": bucket, "Key": "large"}, bucket, "copied")
    assert gateway.file(bucket, "copied").stat().st_size == 24 * MIB + 4321


@pytest.mark.parametrize(
    "more",
    [
        {"ServerSideEncryption": "AES256"},
        {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32},
        {"Tagging": "a=b"},
        {"WebsiteRedirectLocation": "/elsewhere"},
        {"GrantRead": "id=someone"},
        {"ObjectLockLegalHoldStatus": "ON"},
    ],
    ids=lambda more: next(iter(more)),
)
def test_what_is_not_there_is_refused_not_ignored(s3, bucket, refused, more):
    refused(501, "NotImplemented", s3.put_object, Bucket=bucket, Key="k", Body=b"x", **more)
    refused(404, "404", s3.head_object, Bucket=bucket, Key="k")


def test_kms_is_400(s3, bucket, refused):
    keywords = {"Bucket": bucket, "Key": "k", "Body": b"x", "ServerSideEncryption": "aws:kms"}
    refused(400, "InvalidEncryptionAlgorithmError", s3.put_object, **keywords)


def test_storage_class(s3, bucket, refused):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", StorageClass="STANDARD")
    refused(400, "InvalidStorageClass", s3.put_object, Bucket=bucket, Key="g", Body=b"x", StorageClass="GLACIER")


@pytest.mark.parametrize(
    "call, keywords",
    [
        ("put_object_tagging", {"Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]}}),
        ("delete_object_tagging", {}),
        ("put_object_legal_hold", {"LegalHold": {"Status": "ON"}}),
        ("put_object_retention", {"Retention": {"Mode": "GOVERNANCE", "RetainUntilDate": datetime.datetime(2030, 1, 1)}}),
        ("restore_object", {"RestoreRequest": {"Days": 1}}),
        ("get_object_torrent", {}),
        ("rename_object", {"RenameSource": "/from"}),
    ],
)
def test_object_operations_that_are_not_there(s3, bucket, refused, call, keywords):
    """None may fall through to the plain Get, Put or Delete of the object."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"untouched")
    refused(501, "NotImplemented", getattr(s3, call), Bucket=bucket, Key="k", **keywords)
    assert read(s3, bucket, "k") == b"untouched"


def test_object_tagging_reads_as_empty(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []


def test_get_object_attributes(s3, bucket):
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"hello", ChecksumAlgorithm="CRC32")
    wanted = ["ETag", "Checksum", "StorageClass", "ObjectSize"]
    got = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=wanted)
    assert got["ETag"] == put["ETag"].strip('"')
    assert (got["ObjectSize"], got["StorageClass"]) == (5, "STANDARD")
    assert (got["Checksum"]["ChecksumCRC32"], got["Checksum"]["ChecksumType"]) == ("NhCmhg==", "FULL_OBJECT")
