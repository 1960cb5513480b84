"""boto3: the seven calls of multipart uploads."""

import concurrent.futures
import hashlib
import os

import pytest

from inputs import MIB

PART = 5 * MIB


@pytest.fixture
def upload(s3, bucket):
    """An upload to `key`, and what it was called with for every further call."""

    def begin(key="key", **more):
        where = {"Bucket": bucket, "Key": key}
        return where | {"UploadId": s3.create_multipart_upload(**where, **more)["UploadId"]}

    return begin


def send(s3, where, contents):
    """Uploads the parts, four at a time and the last first; gives what completing needs."""

    def part(item):
        number, content = item
        answer = s3.upload_part(**where, PartNumber=number, Body=content)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(part, sorted(contents.items(), reverse=True)))
    return sorted(parts, key=lambda part: part["PartNumber"])


def complete(s3, where, parts, **more):
    return s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts}, **more)


def test_parts_become_one_object(s3, gateway, bucket, upload):
    where = upload(ContentType="video/x", Metadata={"n": "1"})
    contents = {1: os.urandom(PART), 2: os.urandom(PART), 3: os.urandom(100)}
    parts = send(s3, where, contents)
    assert not gateway.file(bucket, "key").exists()
    done = complete(s3, where, parts)
    digests = b"".join(hashlib.md5(content).digest() for content in contents.values())
    assert done["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-3"'
    assert (done["Bucket"], done["Key"]) == (bucket, "key")
    assert done["Location"]
    whole = b"".join(contents.values())
    assert gateway.file(bucket, "key").read_bytes() == whole
    got = s3.get_object(Bucket=bucket, Key="key")
    assert (got["Body"].read(), got["ContentType"], got["Metadata"]) == (whole, "video/x", {"n": "1"})
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_a_part_can_be_read_by_its_number(s3, bucket, upload):
    where = upload()
    contents = {1: os.urandom(PART), 2: os.urandom(77)}
    complete(s3, where, send(s3, where, contents))
    got = s3.get_object(Bucket=bucket, Key="key", PartNumber=2)
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert (got["PartsCount"], got["ContentRange"]) == (2, f"bytes {PART}-{PART + 76}/{PART + 77}")
    assert got["Body"].read() == contents[2]
    head = s3.head_object(Bucket=bucket, Key="key", PartNumber=1)
    assert (head["PartsCount"], head["ContentLength"]) == (2, PART)


def test_numbers_may_be_skipped_and_parts_left_out(s3, bucket, upload):
    where = upload()
    contents = {2: os.urandom(PART), 5: os.urandom(PART), 10_000: os.urandom(10)}
    parts = send(s3, where, contents)
    complete(s3, where, [parts[0], parts[2]])
    assert s3.get_object(Bucket=bucket, Key="key")["Body"].read() == contents[2] + contents[10_000]


def test_a_part_sent_again_replaces_the_first(s3, bucket, upload):
    where = upload()
    send(s3, where, {1: os.urandom(PART + 5), 2: b"first"})
    contents = {1: os.urandom(PART), 2: b"second"}
    complete(s3, where, send(s3, where, contents))
    assert s3.get_object(Bucket=bucket, Key="key")["Body"].read() == contents[1] + contents[2]


def test_upload_part_copy(s3, gateway, bucket, upload):
    source = os.urandom(PART + 1000)
    s3.put_object(Bucket=bucket, Key="a source", Body=source)
    where = upload()
    whole = s3.upload_part_copy(**where, PartNumber=1, CopySource={"Bucket": bucket, "Key": "a source"})
    piece = s3.upload_part_copy(
        **where, PartNumber=2, CopySource={"Bucket": bucket, "Key": "a source"}, CopySourceRange="bytes=10-19"
    )
    parts = [{"PartNumber": n, "ETag": a["CopyPartResult"]["ETag"]} for n, a in [(1, whole), (2, piece)]]
    assert parts[1]["ETag"].strip('"') == hashlib.md5(source[10:20]).hexdigest()
    complete(s3, where, parts)
    assert gateway.file(bucket, "key").read_bytes() == source + source[10:20]


def test_list_parts_by_pages(s3, upload):
    where = upload()
    contents = {number: bytes([number]) * number for number in range(1, 6)}
    sent = send(s3, where, contents)
    listed = s3.list_parts(**where)
    assert [(p["PartNumber"], p["Size"], p["ETag"]) for p in listed["Parts"]] == [
        (p["PartNumber"], p["PartNumber"], p["ETag"]) for p in sent
    ]
    assert (listed["IsTruncated"], listed["StorageClass"]) == (False, "STANDARD")
    pages = s3.get_paginator("list_parts").paginate(**where, PaginationConfig={"PageSize": 2})
    assert [[p["PartNumber"] for p in page["Parts"]] for page in pages] == [[1, 2], [3, 4], [5]]


def test_list_multipart_uploads_by_pages_prefix_and_delimiter(s3, bucket, upload):
    begun = [upload(key)["UploadId"] for key in ("a", "b/1", "b/2", "c", "c")]
    listed = s3.list_multipart_uploads(Bucket=bucket)
    assert [u["Key"] for u in listed["Uploads"]] == ["a", "b/1", "b/2", "c", "c"]
    assert sorted(u["UploadId"] for u in listed["Uploads"]) == sorted(begun)
    pages = s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, PaginationConfig={"PageSize": 2})
    assert [u["Key"] for page in pages for u in page["Uploads"]] == ["a", "b/1", "b/2", "c", "c"]
    listed = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [u["Key"] for u in listed["Uploads"]] == ["a", "c", "c"]
    assert [p["Prefix"] for p in listed["CommonPrefixes"]] == ["b/"]
    assert [u["Key"] for u in s3.list_multipart_uploads(Bucket=bucket, Prefix="b/")["Uploads"]] == ["b/1", "b/2"]


def test_abort_leaves_nothing(s3, gateway, bucket, upload, refused):
    where = upload()
    send(s3, where, {1: os.urandom(100)})
    s3.abort_multipart_upload(**where)
    refused(404, "NoSuchUpload", s3.list_parts, **where)
    refused(404, "NoSuchUpload", s3.abort_multipart_upload, **where)
    refused(404, "NoSuchUpload", s3.upload_part, **where, PartNumber=1, Body=b"x")
    refused(404, "NoSuchUpload", complete, s3, where, [{"PartNumber": 1, "ETag": '"x"'}])
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    assert not gateway.file(bucket, "key").exists()


def test_completing_twice_gives_the_same_answer(s3, upload):
    where = upload()
    parts = send(s3, where, {1: os.urandom(100)})
    assert complete(s3, where, parts)["ETag"] == complete(s3, where, parts)["ETag"]


def test_what_completing_refuses(s3, bucket, upload, refused):
    where = upload()
    parts = send(s3, where, {1: os.urandom(100), 2: os.urandom(100)})
    refused(400, "EntityTooSmall", complete, s3, where, parts)
    refused(400, "InvalidPartOrder", complete, s3, where, parts[::-1])
    refused(400, "InvalidPart", complete, s3, where, [{"PartNumber": 3, "ETag": parts[0]["ETag"]}])
    refused(400, "InvalidPart", complete, s3, where, [{"PartNumber": 1, "ETag": parts[1]["ETag"]}])
    refused(400, "MalformedXML", complete, s3, where, [])
    # None of that has ended the upload.
    complete(s3, where, parts[:1])
    assert s3.head_object(Bucket=bucket, Key="key")["ContentLength"] == 100


def test_bad_part_numbers_are_refused(s3, upload, refused):
    where = upload()
    for number in (0, 10_001, -1):
        refused(400, "InvalidArgument", s3.upload_part, **where, PartNumber=number, Body=b"x")


def test_an_upload_belongs_to_its_key(s3, upload, refused):
    where = upload()
    refused(404, "NoSuchUpload", s3.upload_part, **where | {"Key": "other"}, PartNumber=1, Body=b"x")
    refused(404, "NoSuchUpload", s3.list_parts, **where | {"UploadId": "made-up"})


def test_conditional_completion(s3, bucket, upload, refused):
    s3.put_object(Bucket=bucket, Key="key", Body=b"was first")
    where = upload()
    parts = send(s3, where, {1: os.urandom(10)})
    refused(412, "PreconditionFailed", complete, s3, where, parts, IfNoneMatch="*")
    assert s3.get_object(Bucket=bucket, Key="key")["Body"].read() == b"was first"


def test_the_size_that_was_announced_is_checked(s3, upload, refused):
    where = upload()
    parts = send(s3, where, {1: os.urandom(10)})
    refused(400, "InvalidRequest", complete, s3, where, parts, MpuObjectSize=11)
    complete(s3, where, parts, MpuObjectSize=10)


def test_attributes_tell_the_parts(s3, bucket, upload):
    where = upload(ChecksumAlgorithm="CRC32")
    contents = {1: os.urandom(PART), 2: os.urandom(7)}
    parts = []
    for number, content in contents.items():
        answer = s3.upload_part(**where, PartNumber=number, Body=content, ChecksumAlgorithm="CRC32")
        parts.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32": answer["ChecksumCRC32"]})
    complete(s3, where, parts)
    got = s3.get_object_attributes(Bucket=bucket, Key="key", ObjectAttributes=["ObjectParts", "ObjectSize"])
    assert got["ObjectSize"] == PART + 7
    assert got["ObjectParts"]["TotalPartsCount"] == 2
    assert [(p["PartNumber"], p["Size"]) for p in got["ObjectParts"]["Parts"]] == [(1, PART), (2, 7)]


def test_a_bucket_with_an_upload_can_be_told_from_an_empty_one(s3, bucket, upload):
    """An unfinished upload is no object: it shows in its own listing only."""
    upload()
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    assert len(s3.list_multipart_uploads(Bucket=bucket)["Uploads"]) == 1
