"""What no SDK lets one see: a bare connection, with requests that boto3 has signed."""

import socket
import ssl
import time

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest

from gateway import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY
from inputs import MIB


class UnsignedPayload(botocore.auth.S3SigV4Auth):
    def payload(self, request):
        return "UNSIGNED-PAYLOAD"


@pytest.fixture
def signed_head(gateway):
    """The bytes of a signed request up to its body."""

    def signed_head(method, path, headers=None):
        request = botocore.awsrequest.AWSRequest(method, f"{gateway.endpoint}{path}", headers or {})
        credentials = botocore.credentials.Credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY)
        UnsignedPayload(credentials, "s3", REGION).add_auth(request)
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{gateway.port}"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    return signed_head


@pytest.fixture
def connect(gateway):
    """A TLS connection, closed at the end."""
    context = ssl.create_default_context(cafile=gateway.ca)
    opened = []

    def connect():
        plain = socket.create_connection(("127.0.0.1", gateway.port), timeout=20)
        opened.append(context.wrap_socket(plain, server_hostname="127.0.0.1"))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


def read_head(connection):
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(4096)
        assert piece, f"closed after {head!r}"
        head += piece
    return head


def test_expect_is_judged_before_the_body_is_asked_for(signed_head, connect):
    """A gigabyte for a bucket that is missing: the refusal comes at once, and no 100 before it."""
    connection = connect()
    connection.sendall(signed_head("PUT", "/no-such-bucket-here/k", {"Expect": "100-continue", "Content-Length": str(1024 * MIB)}))
    begun = time.monotonic()
    head = read_head(connection)
    assert head.startswith(b"HTTP/1.1 404 "), head
    assert b"connection: close" in head.lower()
    assert time.monotonic() - begun < 5


def test_expect_is_answered_when_the_request_is_good(signed_head, connect, s3, bucket):
    connection = connect()
    connection.sendall(signed_head("PUT", f"/{bucket}/k", {"Expect": "100-continue", "Content-Length": "5"}))
    assert read_head(connection).startswith(b"HTTP/1.1 100 ")
    connection.sendall(b"hello")
    head = read_head(connection)
    assert head.startswith(b"HTTP/1.1 200 "), head
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"hello"


def test_a_precondition_is_judged_before_the_body_is_asked_for(signed_head, connect, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    headers = {"Expect": "100-continue", "Content-Length": str(1024 * MIB), "If-None-Match": "*"}
    connection = connect()
    connection.sendall(signed_head("PUT", f"/{bucket}/k", headers))
    assert read_head(connection).startswith(b"HTTP/1.1 412 ")


def test_a_body_cut_short_stores_nothing(signed_head, connect, s3, bucket, gateway, refused):
    connection = connect()
    connection.sendall(signed_head("PUT", f"/{bucket}/k", {"Content-Length": str(MIB)}) + bytes(1000))
    connection.close()
    time.sleep(0.5)
    refused(404, "404", s3.head_object, Bucket=bucket, Key="k")
    assert list(gateway.file(bucket, ".").iterdir()) == []


def test_plain_http_is_told_to_use_https(gateway):
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 400 ") and b"https" in answer.lower()


def test_a_connection_is_kept_open(signed_head, connect, bucket):
    connection = connect()
    for _ in range(3):
        connection.sendall(signed_head("HEAD", f"/{bucket}"))
        assert read_head(connection).startswith(b"HTTP/1.1 200 ")


def test_another_certificate_authority_is_not_trusted_by_accident(gateway):
    """The suites prove something only if verification is on: without the gateway's authority no connection stands."""
    context = ssl.create_default_context()
    with pytest.raises(ssl.SSLCertVerificationError):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as plain:
            context.wrap_socket(plain, server_hostname="127.0.0.1")
