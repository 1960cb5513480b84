"""boto3: versions of objects, delete markers, and the way back."""

import boto3
import pytest

from conftest import empty_and_delete
from gateway import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, Gateway
from inputs import KEYS, MIB


def put(s3, bucket, key, body, **more):
    return s3.put_object(Bucket=bucket, Key=key, Body=body, **more)["VersionId"]


def read(s3, bucket, key, **more):
    return s3.get_object(Bucket=bucket, Key=key, **more)["Body"].read()


def set_versioning(s3, bucket, status):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})


def history(s3, bucket, **more):
    """(key, version id, is latest, is a delete marker) of every version, newest first of each key."""
    found = []
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, **more):
        for what in ("Versions", "DeleteMarkers"):
            for entry in page.get(what, []):
                found.append((entry["Key"], entry["VersionId"], entry["IsLatest"], what == "DeleteMarkers"))
    return found


def test_a_new_bucket_keeps_versions(s3, bucket):
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    first = put(s3, bucket, "k", b"first", Metadata={"colour": "blue"})
    second = put(s3, bucket, "k", b"second")
    assert first != second
    assert read(s3, bucket, "k") == b"second"
    assert read(s3, bucket, "k", VersionId=first) == b"first"
    head = s3.head_object(Bucket=bucket, Key="k", VersionId=first)
    assert (head["VersionId"], head["Metadata"], head["ContentLength"]) == (first, {"colour": "blue"}, 5)
    attributes = s3.get_object_attributes(Bucket=bucket, Key="k", VersionId=first, ObjectAttributes=["ObjectSize"])
    assert (attributes["VersionId"], attributes["ObjectSize"]) == (first, 5)
    assert s3.get_object_tagging(Bucket=bucket, Key="k", VersionId=first)["VersionId"] == first


def test_versioning_is_suspended_and_the_null_version_replaced(s3, bucket, refused):
    kept = put(s3, bucket, "k", b"kept")
    set_versioning(s3, bucket, "Suspended")
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Suspended"
    assert put(s3, bucket, "k", b"null one") == "null"
    assert put(s3, bucket, "k", b"null two") == "null"
    assert read(s3, bucket, "k", VersionId="null") == b"null two"
    assert read(s3, bucket, "k", VersionId=kept) == b"kept"
    assert history(s3, bucket) == [("k", "null", True, False), ("k", kept, False, False)]
    set_versioning(s3, bucket, "Enabled")
    assert put(s3, bucket, "k", b"enabled") != "null"
    assert read(s3, bucket, "k", VersionId="null") == b"null two"
    mfa = {"Status": "Enabled", "MFADelete": "Enabled"}
    refused(501, "NotImplemented", s3.put_bucket_versioning, Bucket=bucket, VersioningConfiguration=mfa)
    refused(
        400,
        "IllegalVersioningConfigurationException",
        s3.put_bucket_versioning,
        Bucket=bucket,
        VersioningConfiguration={},
    )


def test_a_delete_marker_hides_and_its_removal_brings_back(s3, bucket, refused):
    kept = put(s3, bucket, "k", b"kept")
    deleted = s3.delete_object(Bucket=bucket, Key="k")
    assert deleted["DeleteMarker"] is True
    marker = deleted["VersionId"]
    hidden = refused(404, "NoSuchKey", s3.get_object, Bucket=bucket, Key="k")
    headers = hidden["ResponseMetadata"]["HTTPHeaders"]
    assert (headers["x-amz-delete-marker"], headers["x-amz-version-id"]) == ("true", marker)
    by_id = refused(405, "MethodNotAllowed", s3.get_object, Bucket=bucket, Key="k", VersionId=marker)
    assert by_id["ResponseMetadata"]["HTTPHeaders"]["x-amz-delete-marker"] == "true"
    refused(405, "405", s3.head_object, Bucket=bucket, Key="k", VersionId=marker)
    source = {"Bucket": bucket, "Key": "k", "VersionId": marker}
    refused(400, "InvalidRequest", s3.copy_object, Bucket=bucket, Key="copy", CopySource=source)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    assert set(history(s3, bucket)) == {("k", marker, True, True), ("k", kept, False, False)}
    removed = s3.delete_object(Bucket=bucket, Key="k", VersionId=marker)
    assert (removed["DeleteMarker"], removed["VersionId"]) == (True, marker)
    assert read(s3, bucket, "k") == b"kept"


def test_a_copy_brings_an_older_version_back(s3, bucket, refused):
    first = put(s3, bucket, "k", b"first")
    second = put(s3, bucket, "k", b"second")
    source = {"Bucket": bucket, "Key": "k", "VersionId": first}
    copied = s3.copy_object(Bucket=bucket, Key="k", CopySource=source)
    assert copied["CopySourceVersionId"] == first
    assert read(s3, bucket, "k") == b"first"
    assert [entry[1] for entry in history(s3, bucket)] == [copied["VersionId"], second, first]
    itself = {"Bucket": bucket, "Key": "k"}
    refused(400, "InvalidRequest", s3.copy_object, Bucket=bucket, Key="k", CopySource=itself)


@pytest.mark.parametrize("page_size", [1, 2, 3, 1000])
def test_every_version_is_listed_once_by_pages(s3, bucket, page_size):
    expected = set()
    for key in KEYS:
        older = put(s3, bucket, key, b"older")
        newer = put(s3, bucket, key, b"newer")
        marker = s3.delete_object(Bucket=bucket, Key=key)["VersionId"]
        expected |= {(key, marker, True, True), (key, newer, False, False), (key, older, False, False)}
    found = history(s3, bucket, PaginationConfig={"PageSize": page_size})
    assert len(found) == len(expected) and set(found) == expected


def test_prefixes_stand_for_the_versions_below_them(s3, bucket):
    for key in ("a/1", "a/2", "b", "c/d/e"):
        put(s3, bucket, key, b"older")
        put(s3, bucket, key, b"newer")
    pages = s3.get_paginator("list_object_versions").paginate(
        Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": 1}
    )
    pages = list(pages)
    assert [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", [])] == ["a/", "c/"]
    assert [entry["Key"] for page in pages for entry in page.get("Versions", [])] == ["b", "b"]
    assert [entry[0] for entry in history(s3, bucket, Prefix="a/")] == ["a/1", "a/1", "a/2", "a/2"]


def test_bulk_deletes_of_names_and_of_versions(s3, bucket):
    version = put(s3, bucket, "v", b"x")
    put(s3, bucket, "n", b"x")
    wanted = [{"Key": "n"}, {"Key": "v", "VersionId": version}]
    by_name, by_id = s3.delete_objects(Bucket=bucket, Delete={"Objects": wanted})["Deleted"]
    assert by_name["DeleteMarker"] and by_name["DeleteMarkerVersionId"]
    assert by_id == {"Key": "v", "VersionId": version}
    wanted = [{"Key": "n", "VersionId": by_name["DeleteMarkerVersionId"]}]
    (marker,) = s3.delete_objects(Bucket=bucket, Delete={"Objects": wanted})["Deleted"]
    assert marker["DeleteMarker"] and marker["DeleteMarkerVersionId"] == marker["VersionId"]
    assert read(s3, bucket, "n") == b"x"


def test_a_bucket_goes_when_all_its_versions_have_gone(s3, gateway, bucket, refused):
    own = f"{bucket}-own"
    s3.create_bucket(Bucket=own)
    for _ in range(3):
        put(s3, own, "k", b"x")
    s3.delete_object(Bucket=own, Key="k")
    refused(409, "BucketNotEmpty", s3.delete_bucket, Bucket=own)
    resource = boto3.resource(
        "s3",
        endpoint_url=gateway.endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        verify=str(gateway.ca),
    )
    resource.Bucket(own).object_versions.delete()
    s3.delete_bucket(Bucket=own)


def test_a_multipart_upload_makes_one_version(s3, bucket, large, tmp_path):
    older = put(s3, bucket, "k", b"older")
    s3.upload_file(str(large), bucket, "k")
    newest = s3.head_object(Bucket=bucket, Key="k")["VersionId"]
    assert [entry[1] for entry in history(s3, bucket)] == [newest, older]
    s3.download_file(bucket, "k", str(tmp_path / "back"), ExtraArgs={"VersionId": newest})
    assert (tmp_path / "back").stat().st_size == large.stat().st_size > 8 * MIB
    s3.download_file(bucket, "k", str(tmp_path / "older"), ExtraArgs={"VersionId": older})
    assert (tmp_path / "older").read_bytes() == b"older"


def test_a_presigned_url_of_a_version(make_s3, https, s3, bucket):
    first = put(s3, bucket, "k", b"first")
    put(s3, bucket, "k", b"second")
    presigner = make_s3(signature_version="s3v4")
    url = presigner.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k", "VersionId": first})
    fetched = https("GET", url)
    assert (fetched.status, fetched.body) == (200, b"first")
    changed = https("GET", url.replace(first, "null"))
    assert changed.status == 401


def test_ids_that_name_nothing(s3, bucket, refused):
    put(s3, bucket, "k", b"x")
    refused(404, "NoSuchVersion", s3.get_object, Bucket=bucket, Key="k", VersionId="f" * 32)
    refused(404, "NoSuchVersion", s3.delete_object, Bucket=bucket, Key="k", VersionId="null")
    refused(400, "InvalidArgument", s3.get_object, Bucket=bucket, Key="k", VersionId="no/such id")
    refused(400, "InvalidArgument", s3.list_object_versions, Bucket=bucket, VersionIdMarker="null")


def test_the_newest_version_is_the_plain_file(s3, gateway, bucket):
    first = put(s3, bucket, "dir/k", b"first")
    put(s3, bucket, "dir/k", b"second")
    assert gateway.file(bucket, "dir/k").read_bytes() == b"second"
    s3.delete_object(Bucket=bucket, Key="dir/k")
    assert not gateway.file(bucket, "dir/k").exists()
    source = {"Bucket": bucket, "Key": "dir/k", "VersionId": first}
    s3.copy_object(Bucket=bucket, Key="dir/k", CopySource=source)
    assert gateway.file(bucket, "dir/k").read_bytes() == b"first"


def test_in_dialect_aws_a_bucket_keeps_versions_once_it_is_told_to(tmp_path, refused):
    running = Gateway(tmp_path, ["--dialect", "aws"])
    try:
        s3 = boto3.client(
            "s3",
            endpoint_url=running.endpoint,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
            verify=str(running.ca),
        )
        s3.create_bucket(Bucket="aws")
        assert "Status" not in s3.get_bucket_versioning(Bucket="aws")
        assert "VersionId" not in s3.put_object(Bucket="aws", Key="k", Body=b"before")
        set_versioning(s3, "aws", "Enabled")
        newer = put(s3, "aws", "k", b"newer")
        assert history(s3, "aws") == [("k", newer, True, False), ("k", "null", False, False)]
        # What is not there gets a marker all the same, and what is gone is gone.
        assert s3.delete_object(Bucket="aws", Key="none")["DeleteMarker"] is True
        answer = s3.delete_object(Bucket="aws", Key="k", VersionId="f" * 32)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
        empty_and_delete(s3, "aws")
    finally:
        assert running.stop() == 0
