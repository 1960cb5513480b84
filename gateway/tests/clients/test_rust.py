"""aws-sdk-s3 for Rust, in rust/src/main.rs."""

import pytest

from inputs import KEYS


@pytest.fixture
def rust(run, gateway, bucket, large, clients):
    def rust(case, input=large):
        return run(
            clients / "rust" / "debug" / "t2gate-client-rust",
            case,
            bucket,
            input,
            T2_ENDPOINT=gateway.endpoint,
            T2_VIRTUAL_ENDPOINT=gateway.virtual_endpoint,
            T2_CA=str(gateway.ca),
            T2_KEYS="\n".join([*KEYS, "double//slash", "equals=/plus+/double//x"]),
        )

    return rust


@pytest.mark.parametrize("case", ["buckets", "keys", "conditional", "versions"])
def test_case(rust, case):
    rust(case)


def test_what_it_stores_is_the_plain_file(rust, gateway, bucket, large):
    rust("objects")
    assert gateway.file(bucket, "kept/stored").read_bytes() == large.read_bytes()


def test_virtual_host_style(rust, gateway, bucket, large):
    rust("virtual_host")
    assert gateway.file(bucket, "kept/stored").read_bytes() == large.read_bytes()[:1000]


def test_multipart_with_parallel_parts_and_a_copied_one(rust, gateway, bucket, large):
    rust("multipart")
    assert gateway.file(bucket, "kept/large").read_bytes() == large.read_bytes()


def test_presigned_put_and_get(rust, https):
    put, get = rust("presign").decode().split()
    stored = https("PUT", put, body=b"by a link")
    assert stored.status == 200, stored.body
    fetched = https("GET", get)
    assert (fetched.status, fetched.body) == (200, b"by a link")
