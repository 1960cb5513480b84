"""boto3: who may do what: ACLs, anonymous requests, signatures, presigned URLs, the two styles of address."""

import socket
import time
import urllib.parse

import boto3
import pytest

from conftest import empty_and_delete
from gateway import ACCESS_KEY_ID, SECRET_ACCESS_KEY

AWS4 = "AWS4-HMAC-SHA256"


def grants(answer):
    return sorted((grant["Grantee"].get("URI", "owner").rsplit("/", 1)[-1], grant["Permission"]) for grant in answer["Grants"])


PRIVATE = [("owner", "FULL_CONTROL")]
PUBLIC = [("AllUsers", "READ"), ("owner", "FULL_CONTROL")]


def test_a_bucket_is_private_until_it_is_made_public(s3, anonymous, bucket, refused):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert grants(s3.get_bucket_acl(Bucket=bucket)) == PRIVATE
    refused(401, "AccessDenied", anonymous.get_object, Bucket=bucket, Key="k")
    s3.put_bucket_acl(Bucket=bucket, ACL="public-read")
    assert grants(s3.get_bucket_acl(Bucket=bucket)) == PUBLIC
    assert grants(s3.get_object_acl(Bucket=bucket, Key="k")) == PUBLIC
    assert anonymous.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
    assert anonymous.head_object(Bucket=bucket, Key="k")["ContentLength"] == 1
    s3.put_bucket_acl(Bucket=bucket, ACL="private")
    refused(401, "AccessDenied", anonymous.get_object, Bucket=bucket, Key="k")


def test_what_anonymous_may_not_do_in_a_public_bucket(s3, anonymous, bucket, refused):
    s3.put_bucket_acl(Bucket=bucket, ACL="public-read")
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    refused(404, "NoSuchKey", anonymous.get_object, Bucket=bucket, Key="missing")
    refused(401, "AccessDenied", anonymous.list_objects_v2, Bucket=bucket)
    refused(401, "AccessDenied", anonymous.list_objects, Bucket=bucket)
    refused(401, "AccessDenied", anonymous.put_object, Bucket=bucket, Key="new", Body=b"x")
    refused(401, "AccessDenied", anonymous.delete_object, Bucket=bucket, Key="k")
    refused(401, "AccessDenied", anonymous.put_bucket_acl, Bucket=bucket, ACL="private")
    refused(401, "AccessDenied", anonymous.get_bucket_acl, Bucket=bucket)
    refused(401, "AccessDenied", anonymous.delete_bucket, Bucket=bucket)
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["k"]


def test_anonymous_may_not_list_buckets(anonymous, refused):
    refused(401, "AccessDenied", anonymous.list_buckets)


def test_anonymous_cannot_override_response_headers(s3, anonymous, bucket, refused):
    s3.put_bucket_acl(Bucket=bucket, ACL="public-read")
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    refused(400, "InvalidRequest", anonymous.get_object, Bucket=bucket, Key="k", ResponseContentType="text/html")


def test_a_bucket_can_be_created_public(s3, anonymous, bucket):
    own = f"{bucket}-own"
    s3.create_bucket(Bucket=own, ACL="public-read")
    s3.put_object(Bucket=own, Key="k", Body=b"x")
    assert anonymous.get_object(Bucket=own, Key="k")["Body"].read() == b"x"
    empty_and_delete(s3, own)


def test_an_object_has_the_acl_of_its_bucket_and_no_other(s3, bucket, refused):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ACL="private")
    s3.put_object_acl(Bucket=bucket, Key="k", ACL="private")
    refused(403, "AccessDenied", s3.put_object, Bucket=bucket, Key="new", Body=b"x", ACL="public-read")
    refused(403, "AccessDenied", s3.put_object_acl, Bucket=bucket, Key="k", ACL="public-read")
    refused(403, "AccessDenied", s3.put_object_acl, Bucket=bucket, Key="k", ACL="bucket-owner-full-control")
    refused(404, "404", s3.head_object, Bucket=bucket, Key="new")
    s3.put_bucket_acl(Bucket=bucket, ACL="public-read")
    s3.put_object(Bucket=bucket, Key="new", Body=b"x", ACL="public-read")
    refused(403, "AccessDenied", s3.put_object, Bucket=bucket, Key="k", Body=b"x", ACL="private")


@pytest.mark.parametrize("acl", ["public-read-write", "authenticated-read", "log-delivery-write"])
def test_other_canned_acls_of_buckets_are_refused(s3, bucket, acl):
    with pytest.raises(s3.exceptions.ClientError) as caught:
        s3.put_bucket_acl(Bucket=bucket, ACL=acl)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 403, 501)
    assert grants(s3.get_bucket_acl(Bucket=bucket)) == PRIVATE


def test_what_is_no_canned_acl_is_400(s3, bucket, refused):
    refused(400, "InvalidArgument", s3.put_object, Bucket=bucket, Key="k", Body=b"x", ACL="made-up")
    refused(400, "InvalidArgument", s3.put_bucket_acl, Bucket=bucket, ACL="made-up")


def test_an_acl_as_xml_may_say_what_a_canned_one_says(s3, bucket, refused):
    acl = s3.get_bucket_acl(Bucket=bucket)
    policy = {"Owner": acl["Owner"], "Grants": acl["Grants"]}
    s3.put_bucket_acl(Bucket=bucket, AccessControlPolicy=policy)
    policy["Grants"][0]["Permission"] = "READ_ACP"
    refused(501, "NotImplemented", s3.put_bucket_acl, Bucket=bucket, AccessControlPolicy=policy)
    refused(501, "NotImplemented", s3.put_bucket_acl, Bucket=bucket, GrantRead="id=someone")


def test_a_wrong_secret_is_401(make_s3, bucket, refused):
    wrong = make_s3(secret_access_key="not the secret")
    error = refused(401, "SignatureDoesNotMatch", wrong.list_objects_v2, Bucket=bucket)
    assert error["ResponseMetadata"]["HTTPHeaders"]["www-authenticate"].startswith(AWS4)
    refused(401, "SignatureDoesNotMatch", wrong.put_object, Bucket=bucket, Key="k", Body=b"x")


def test_an_unknown_key_is_401(make_s3, bucket, refused):
    refused(401, "InvalidAccessKeyId", make_s3(access_key_id="UNKNOWNKEY0000000001").list_buckets)


def test_bad_credentials_are_not_anonymous_on_a_public_bucket(s3, make_s3, bucket, refused):
    s3.put_bucket_acl(Bucket=bucket, ACL="public-read")
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    wrong = make_s3(secret_access_key="not the secret")
    refused(401, "SignatureDoesNotMatch", wrong.get_object, Bucket=bucket, Key="k")


def test_signature_v2_is_refused(make_s3, bucket, refused):
    refused(400, "InvalidRequest", make_s3(signature_version="s3").list_objects_v2, Bucket=bucket)


def test_another_region_is_named_back(gateway, bucket, refused):
    elsewhere = boto3.client(
        "s3",
        endpoint_url=gateway.endpoint,
        region_name="eu-central-1",
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        verify=str(gateway.ca),
    )
    # botocore takes the region from the refusal and tries again: what it ends with is success.
    assert elsewhere.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_payload_that_was_hashed(make_s3, gateway, bucket):
    """payload_signing_enabled sends the body's SHA-256 in the signature instead of a trailer."""
    hashed = make_s3(s3={"payload_signing_enabled": True}, request_checksum_calculation="when_required")
    hashed.put_object(Bucket=bucket, Key="k", Body=b"hashed")
    assert gateway.file(bucket, "k").read_bytes() == b"hashed"


@pytest.fixture(scope="session")
def presigner(make_s3):
    """boto3 presigns with signature v2 unless it is told otherwise."""
    return make_s3(signature_version="s3v4")


@pytest.fixture
def presigned(presigner, bucket):
    def presigned(call, key="k", expires=3600, **more):
        return presigner.generate_presigned_url(call, Params={"Bucket": bucket, "Key": key, **more}, ExpiresIn=expires)

    return presigned


def code(answer):
    text = answer.body.decode()
    return text.partition("<Code>")[2].partition("</Code>")[0]


def test_presigned_put_get_head_delete(presigned, https, gateway, bucket):
    key = "pre signed+=&<ü>.txt"
    put = https("PUT", presigned("put_object", key, ContentType="text/x"), b"linked", {"Content-Type": "text/x"})
    assert put.status == 200, put.body
    assert gateway.file(bucket, key).read_bytes() == b"linked"
    got = https("GET", presigned("get_object", key))
    assert (got.status, got.body, got.headers["Content-Type"]) == (200, b"linked", "text/x")
    assert https("HEAD", presigned("head_object", key)).status == 200
    part = https("GET", presigned("get_object", key), headers={"Range": "bytes=0-1"})
    assert (part.status, part.body) == (206, b"li")
    assert https("DELETE", presigned("delete_object", key)).status == 204


def test_presigned_response_headers(presigned, https, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    got = https("GET", presigned("get_object", ResponseContentDisposition='attachment; filename="a b"'))
    assert (got.status, got.headers["Content-Disposition"]) == (200, 'attachment; filename="a b"')


def test_presigned_upload_of_parts(presigned, presigner, https, s3, gateway, bucket):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    put = https("PUT", presigned("upload_part", UploadId=upload, PartNumber=1), b"a part")
    assert put.status == 200, put.body
    parts = {"Parts": [{"PartNumber": 1, "ETag": put.headers["ETag"]}]}
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts)
    assert gateway.file(bucket, "k").read_bytes() == b"a part"


def test_presigned_with_metadata_that_is_signed(presigned, https, s3, bucket):
    url = presigned("put_object", Metadata={"colour": "blue"})
    answer = https("PUT", url, b"x", {"x-amz-meta-colour": "blue"})
    assert answer.status == 200, answer.body
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"colour": "blue"}


def test_a_presigned_url_is_for_one_request_only(presigned, https, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    s3.put_object(Bucket=bucket, Key="secret", Body=b"x")
    url = presigned("get_object")
    for method, other in [
        ("GET", url.replace("/k?", "/secret?")),
        ("PUT", url),
        ("DELETE", url),
        ("GET", url.replace("X-Amz-Expires=3600", "X-Amz-Expires=36000")),
        ("GET", url + "&response-content-type=text/html"),
        ("GET", url[:-1] + ("0" if url[-1] != "0" else "1")),
    ]:
        answer = https(method, other, b"overwritten" if method == "PUT" else None)
        assert (answer.status, code(answer)) == (401, "SignatureDoesNotMatch"), (method, other)
        assert answer.headers["WWW-Authenticate"].startswith(AWS4)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_a_presigned_url_expires(presigned, https, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    url = presigned("get_object", expires=1)
    time.sleep(2.5)
    answer = https("GET", url)
    assert (answer.status, code(answer)) == (401, "AccessDenied")


@pytest.mark.parametrize("expires", [0, 604801, -1])
def test_a_presigned_url_lasts_a_second_to_a_week(presigned, https, expires):
    answer = https("GET", presigned("get_object", expires=expires))
    assert (answer.status, code(answer)) == (400, "AuthorizationQueryParametersError")


def test_a_presigned_url_of_version_two_is_400(s3, https, bucket):
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    assert "AWSAccessKeyId=" in url
    answer = https("GET", url)
    assert (answer.status, code(answer)) == (400, "InvalidRequest")


def test_two_ways_of_authentication_at_once_are_400(presigned, https):
    answer = https("GET", presigned("get_object"), headers={"Authorization": f"{AWS4} Credential=x"})
    assert (answer.status, code(answer)) == (400, "InvalidArgument")


def test_a_session_token_is_refused(gateway, bucket, refused):
    temporary = boto3.client(
        "s3",
        endpoint_url=gateway.endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        aws_session_token="a token",
        verify=str(gateway.ca),
    )
    refused(400, "InvalidToken", temporary.list_objects_v2, Bucket=bucket)


def test_form_upload_points_at_presigned_put(presigner, https, bucket):
    post = presigner.generate_presigned_post(bucket, "k")
    boundary = "boundary"
    fields = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in post["fields"].items()
    )
    body = f'{fields}--{boundary}\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--{boundary}--\r\n'
    answer = https("POST", post["url"], body.encode(), {"Content-Type": f"multipart/form-data; boundary={boundary}"})
    assert (answer.status, code(answer)) == (501, "NotImplemented")
    assert b"presigned" in answer.body


@pytest.fixture
def loopback_names(monkeypatch):
    """Resolves *.s3.localhost to loopback, as a DNS entry would; nothing about TLS is changed."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host, *arguments, **keywords):
        if isinstance(host, str) and host.endswith("s3.localhost"):
            host = "127.0.0.1"
        return resolve(host, *arguments, **keywords)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_virtual_host_style(loopback_names, make_s3, gateway, bucket, large):
    virtual = make_s3(endpoint=gateway.virtual_endpoint, s3={"addressing_style": "virtual"}, signature_version="s3v4")
    url = virtual.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a b/c+d"})
    assert urllib.parse.urlsplit(url).hostname == f"{bucket}.s3.localhost"
    virtual.put_object(Bucket=bucket, Key="a b/c+d", Body=b"by host")
    assert gateway.file(bucket, "a b/c+d").read_bytes() == b"by host"
    assert [entry["Key"] for entry in virtual.list_objects_v2(Bucket=bucket)["Contents"]] == ["a b/c+d"]
    virtual.upload_file(str(large), bucket, "large")
    assert gateway.file(bucket, "large").read_bytes() == large.read_bytes()
    assert bucket in [entry["Name"] for entry in virtual.list_buckets()["Buckets"]]


def test_virtual_host_style_presigned(loopback_names, make_s3, gateway, https, bucket):
    virtual = make_s3(endpoint=gateway.virtual_endpoint, s3={"addressing_style": "virtual"}, signature_version="s3v4")
    virtual.put_object(Bucket=bucket, Key="k", Body=b"by host")
    answer = https("GET", virtual.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"}))
    assert (answer.status, answer.body) == (200, b"by host")


def test_by_the_name_localhost(make_s3, gateway, bucket):
    by_name = make_s3(endpoint=f"https://localhost:{gateway.port}")
    by_name.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert gateway.file(bucket, "k").read_bytes() == b"x"
