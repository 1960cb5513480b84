"""boto3: listings of objects, both versions of the call."""

import concurrent.futures
import urllib.parse

import pytest

from inputs import KEYS

# Byte order of whole keys: "a-b" < "a.b" < "a/b" < "ab", whatever the directories look like.
TREE = ["a-b", "a.b", "a/b", "a/b/c", "ab", "photos/2025/1.jpg", "photos/2025/2.jpg", "photos/2026/1.jpg", "readme"]


@pytest.fixture
def tree(s3, bucket):
    """The keys above, without the pair of which one is the other's directory."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket=bucket, Key=key, Body=key.encode()), keys()))
    return bucket


def keys():
    return [key for key in TREE if key != "a/b"]


def names(page):
    return [entry["Key"] for entry in page.get("Contents", [])], [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]


def test_everything_in_byte_order(s3, tree):
    page = s3.list_objects_v2(Bucket=tree)
    assert names(page) == (sorted(keys()), [])
    assert (page["KeyCount"], page["IsTruncated"], page["MaxKeys"], page["Name"]) == (len(keys()), False, 1000, tree)
    for entry in page["Contents"]:
        assert entry["Size"] == len(entry["Key"])
        assert entry["StorageClass"] == "STANDARD"
        assert entry["ETag"] == s3.head_object(Bucket=tree, Key=entry["Key"])["ETag"]
        assert "Owner" not in entry


def test_an_empty_bucket(s3, bucket):
    page = s3.list_objects_v2(Bucket=bucket)
    assert (names(page), page["KeyCount"], page["IsTruncated"]) == (([], []), 0, False)


@pytest.mark.parametrize(
    "asked, contents, prefixes",
    [
        ({"Delimiter": "/"}, ["a-b", "a.b", "ab", "readme"], ["a/", "photos/"]),
        ({"Prefix": "photos/", "Delimiter": "/"}, [], ["photos/2025/", "photos/2026/"]),
        ({"Prefix": "photos/2025/", "Delimiter": "/"}, ["photos/2025/1.jpg", "photos/2025/2.jpg"], []),
        ({"Prefix": "photos/2"}, ["photos/2025/1.jpg", "photos/2025/2.jpg", "photos/2026/1.jpg"], []),
        ({"Prefix": "photos/2", "Delimiter": "/"}, [], ["photos/2025/", "photos/2026/"]),
        ({"Delimiter": "os/20"}, ["a-b", "a.b", "a/b/c", "ab", "readme"], ["photos/20"]),
        ({"Prefix": "a", "Delimiter": "b"}, [], ["a-b", "a.b", "a/b", "ab"]),
        ({"Prefix": "nothing"}, [], []),
        ({"StartAfter": "photos/2025/1.jpg"}, ["photos/2025/2.jpg", "photos/2026/1.jpg", "readme"], []),
        ({"StartAfter": "photos/2025/1.jpg", "Delimiter": "/"}, ["readme"], ["photos/"]),
    ],
    ids=str,
)
def test_prefix_delimiter_and_start(s3, tree, asked, contents, prefixes):
    assert names(s3.list_objects_v2(Bucket=tree, **asked)) == (contents, prefixes)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("delimiter", ["", "/"])
@pytest.mark.parametrize("call", ["list_objects", "list_objects_v2"])
def test_pages_add_up_to_the_whole(s3, tree, call, delimiter, size):
    asked = {"Bucket": tree} | ({"Delimiter": delimiter} if delimiter else {})
    whole = names(getattr(s3, call)(**asked))
    contents, prefixes = [], []
    for page in s3.get_paginator(call).paginate(**asked, PaginationConfig={"PageSize": size}):
        keys_of_page, prefixes_of_page = names(page)
        assert len(keys_of_page) + len(prefixes_of_page) <= size
        contents += keys_of_page
        prefixes += prefixes_of_page
    assert (contents, prefixes) == whole


def test_max_keys_zero_is_an_empty_page(s3, tree):
    page = s3.list_objects_v2(Bucket=tree, MaxKeys=0)
    assert (names(page), page["KeyCount"], page["MaxKeys"]) == (([], []), 0, 0)
    assert not page["IsTruncated"]


def test_a_page_says_where_it_goes_on(s3, tree):
    first = s3.list_objects_v2(Bucket=tree, MaxKeys=2)
    assert first["IsTruncated"] and first["KeyCount"] == 2
    second = s3.list_objects_v2(Bucket=tree, ContinuationToken=first["NextContinuationToken"])
    assert second["ContinuationToken"] == first["NextContinuationToken"]
    assert names(first)[0] + names(second)[0] == sorted(keys())


def test_a_made_up_token_is_refused(s3, tree, refused):
    refused(400, "InvalidArgument", s3.list_objects_v2, Bucket=tree, ContinuationToken="made up")


def test_version_one_has_markers(s3, tree):
    page = s3.list_objects(Bucket=tree, Delimiter="/", MaxKeys=2)
    assert page["IsTruncated"] and page["NextMarker"]
    page = s3.list_objects(Bucket=tree, Marker="photos/2025/2.jpg")
    assert names(page) == (["photos/2026/1.jpg", "readme"], [])
    assert page["Marker"] == "photos/2025/2.jpg"


def test_owner_on_request(s3, tree):
    owner = s3.list_buckets()["Owner"]["ID"]
    page = s3.list_objects_v2(Bucket=tree, FetchOwner=True)
    assert {entry["Owner"]["ID"] for entry in page["Contents"]} == {owner}


@pytest.mark.parametrize("encoding", [None, "url"])
def test_awkward_names_in_listings(s3, bucket, encoding):
    """boto3 asks for encoding-type=url by itself and decodes; asked for explicitly, it does not decode."""
    for key in KEYS:
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    asked = {"EncodingType": encoding} if encoding else {}
    listed, _ = names(s3.list_objects_v2(Bucket=bucket, **asked))
    if encoding:
        assert not any(" " in key or "<" in key for key in listed)
        listed = [urllib.parse.unquote_plus(key) for key in listed]
    assert listed == sorted(KEYS, key=lambda key: key.encode())


def test_a_bad_encoding_or_size_is_refused(s3, bucket, refused):
    refused(400, "InvalidArgument", s3.list_objects_v2, Bucket=bucket, EncodingType="base64")
    refused(400, "InvalidArgument", s3.list_objects_v2, Bucket=bucket, MaxKeys=-1)


def test_a_missing_bucket(s3, refused):
    error = refused(404, "NoSuchBucket", s3.list_objects_v2, Bucket="no-such-bucket-here")
    assert error["Error"]["Resource"] == "no-such-bucket-here"


def test_more_than_a_thousand_keys(s3, bucket):
    wanted = [f"k{number:04}" for number in range(1100)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket=bucket, Key=key, Body=b""), wanted))
    first = s3.list_objects_v2(Bucket=bucket, MaxKeys=5000)
    assert (first["KeyCount"], first["MaxKeys"], first["IsTruncated"]) == (1000, 1000, True)
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    assert [entry["Key"] for page in pages for entry in page["Contents"]] == wanted
