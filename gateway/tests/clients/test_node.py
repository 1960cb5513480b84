"""@aws-sdk/client-s3 and @aws-sdk/lib-storage for JavaScript, in node/client.mjs."""

import pathlib

import pytest

from inputs import KEYS

CLIENT = pathlib.Path(__file__).parent / "node" / "client.mjs"


@pytest.fixture
def node(run, gateway, bucket, large):
    def node(case, input=large):
        return run(
            "node",
            CLIENT,
            case,
            bucket,
            input,
            NODE_EXTRA_CA_CERTS=str(gateway.ca),
            T2_KEYS="\n".join(KEYS),
            T2_VIRTUAL_ENDPOINT=gateway.virtual_endpoint,
        )

    return node


@pytest.mark.parametrize("case", ["buckets", "checksums", "keys", "conditional", "versions"])
def test_case(node, case):
    node(case)


@pytest.mark.parametrize("case", ["objects", "virtualHost"])
def test_what_it_stores_is_the_plain_file(node, gateway, bucket, large, case):
    node(case)
    assert gateway.file(bucket, "kept/stored").read_bytes() == large.read_bytes()


def test_lib_storage_uploads_parts_in_parallel(node, gateway, bucket, large):
    node("multipart")
    assert gateway.file(bucket, "kept/large").read_bytes() == large.read_bytes()


def test_presigned_put_and_get(node, https):
    put, get = node("presign").decode().split()
    stored = https("PUT", put, body=b"by a link")
    assert stored.status == 200, stored.body
    fetched = https("GET", get)
    assert (fetched.status, fetched.body) == (200, b"by a link")


def test_a_checksum_in_a_presigned_url_is_verified(node, https, s3, bucket, refused):
    (url,) = node("presignEmpty").decode().split()
    assert "x-amz-checksum-crc32=AAAAAA" in url
    answer = https("PUT", url, body=b"not empty")
    assert answer.status == 400 and b"<Code>BadDigest</Code>" in answer.body
    refused(404, "404", s3.head_object, Bucket=bucket, Key="empty")
    assert https("PUT", url, body=b"").status == 200


def test_a_presigned_copy_copies(node, https, s3, bucket):
    s3.put_object(Bucket=bucket, Key="source", Body=b"the source")
    (url,) = node("presignCopy").decode().split()
    copied = https("PUT", url)
    assert copied.status == 200, copied.body
    assert b"<CopyObjectResult" in copied.body
    assert s3.get_object(Bucket=bucket, Key="copied")["Body"].read() == b"the source"
