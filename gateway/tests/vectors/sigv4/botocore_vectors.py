#!/usr/bin/env python3
"""Makes botocore.toml: requests signed by botocore, with every stage of their signatures.

    python3 -m venv venv && venv/bin/pip install botocore==1.44.5
    venv/bin/python botocore_vectors.py > botocore.toml

The clock stands still, so that the same version of botocore makes the same file. Nothing is sent anywhere.
"""

import datetime
import io
import sys
from unittest import mock

import botocore
import botocore.auth
import botocore.session
from botocore.awsrequest import AWSResponse
from botocore.config import Config

NOW = datetime.datetime(2026, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc)
ACCESS_KEY = "AKIDVECTORS"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

KEYS = [
    "plain",
    "with space",
    " both ends ",
    "a+b",
    "a=b",
    "a&b=c",
    "a//b",
    "//",
    "a/",
    "a/./b/../c",
    "..",
    "100%",
    "%41",
    "%2F",
    "grün/日本語/🦀",
    "e\u0301 decomposed",
    "quote\"s'and<angles>",
    "semi;colon,comma:at@",
    "[x]{y}|z\\w^`",
    "tilde~star*bang!(paren)",
    "question?mark#hash",
    "$dollar",
]


class Recorder:
    """Keeps what the signer made on the way."""

    def __init__(self):
        self.records = []

    def wrap(self, cls):
        recorder = self
        canonical_request, string_to_sign, signature = cls.canonical_request, cls.string_to_sign, cls.signature

        def record_canonical_request(self, request):
            text = canonical_request(self, request)
            recorder.records.append({"canonical_request": text})
            return text

        def record_string_to_sign(self, request, canonical):
            text = string_to_sign(self, request, canonical)
            recorder.records[-1]["string_to_sign"] = text
            return text

        def record_signature(self, string, request):
            text = signature(self, string, request)
            recorder.records[-1]["signature"] = text
            return text

        cls.canonical_request = record_canonical_request
        cls.string_to_sign = record_string_to_sign
        cls.signature = record_signature


def client(url="https://gate.example.com:8443", style="path"):
    return botocore.session.Session().create_client(
        "s3",
        endpoint_url=url,
        region_name="eu-central-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(signature_version="s3v4", s3={"addressing_style": style}),
    )


def text(value):
    """A TOML basic string."""
    if isinstance(value, bytes):
        value = value.decode("utf-8")
    escaped = "".join(
        {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}.get(c, c if " " <= c != "\x7f" else f"\\u{ord(c):04x}")
        for c in value
    )
    return f'"{escaped}"'


def show(name, kind, method, url, headers, record):
    scheme, rest = url.split("://", 1)
    host, slash, target = rest.partition("/")
    # Python's HTTP client leaves the default port out of Host.
    host = host.removesuffix({"https": ":443", "http": ":80"}[scheme])
    print("[[request]]")
    print("name =", text(name))
    print("kind =", text(kind))
    print("method =", text(method))
    print("host =", text(host))
    print("target =", text(slash + target))
    print("headers = [")
    for header, value in headers:
        # They differ from run to run and from machine to machine, and are not signed.
        if header.lower() in ("user-agent", "amz-sdk-invocation-id", "amz-sdk-request"):
            continue
        print(f"    [{text(header)}, {text(value)}],")
    print("]")
    for field in ("canonical_request", "string_to_sign", "signature"):
        print(field, "=", text(record[field]))
    print()


def main():
    recorder = Recorder()
    recorder.wrap(botocore.auth.SigV4Auth)

    signed = []

    def capture(request, **kwargs):
        signed.append(request)
        return AWSResponse(request.url, 200, {}, io.BytesIO(b""))

    def header(name, call, **where):
        s3 = client(**where)
        s3.meta.events.register("before-send.s3", capture)
        before = len(signed)
        try:
            call(s3)
        except Exception:  # The made-up answer does not parse for every call; the request is what counts.
            if len(signed) == before:
                raise
        request = signed[before]
        show(name, "header", request.method, request.url, request.headers.items(), recorder.records[-1])

    def presigned(name, operation, params, method, expires=3600, **where):
        url = client(**where).generate_presigned_url(operation, Params=params, ExpiresIn=expires)
        headers = []
        if "ContentType" in params:
            headers.append(("Content-Type", params["ContentType"]))
        show(name, "presigned", method, url, headers, recorder.records[-1])

    print(f"# Made by botocore_vectors.py with botocore {botocore.__version__}.")
    print(f"access_key_id = {text(ACCESS_KEY)}")
    print(f"secret_access_key = {text(SECRET_KEY)}")
    print(f"timestamp = {text(NOW.strftime('%Y%m%dT%H%M%SZ'))}")
    print('region = "eu-central-1"')
    print()

    for key in KEYS:
        header(f"get {key}", lambda s3: s3.get_object(Bucket="bucket", Key=key))
        presigned(f"presigned get {key}", "get_object", {"Bucket": "bucket", "Key": key}, "GET")
        header(f"list prefix {key}", lambda s3: s3.list_objects_v2(Bucket="bucket", Prefix=key, Delimiter="/"))
    header("put over TLS", lambda s3: s3.put_object(Bucket="bucket", Key="k", Body=b"hello"))
    header(
        "put over plain HTTP",
        lambda s3: s3.put_object(Bucket="bucket", Key="k", Body=b"hello"),
        url="http://gate.example.com:8080",
    )
    header(
        "put with metadata",
        lambda s3: s3.put_object(
            Bucket="bucket",
            Key="k",
            Body=b"hello",
            ContentType="text/plain;  charset=utf-8",
            Metadata={"inner": "a   b    c", "comma": "a,b", "colon": "a:b=c"},
        ),
    )
    header("put of nothing", lambda s3: s3.put_object(Bucket="bucket", Key="k", Body=b""))
    header("delete", lambda s3: s3.delete_object(Bucket="bucket", Key="a b", VersionId="x+y/z="))
    header("delete many", lambda s3: s3.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": "a&b"}]}))
    header("copy", lambda s3: s3.copy_object(Bucket="bucket", Key="k", CopySource={"Bucket": "b", "Key": "a b+ü"}))
    header("list buckets", lambda s3: s3.list_buckets())
    header("head bucket", lambda s3: s3.head_bucket(Bucket="bucket"))
    header("sub-resource", lambda s3: s3.get_bucket_lifecycle_configuration(Bucket="bucket"))
    header("part", lambda s3: s3.upload_part(Bucket="bucket", Key="k", UploadId="u+/=", PartNumber=7, Body=b"x"))
    header("token", lambda s3: s3.list_objects_v2(Bucket="bucket", ContinuationToken="a+b/c=="))
    header("default port", lambda s3: s3.get_object(Bucket="bucket", Key="k"), url="https://gate.example.com:443")
    header("virtual host", lambda s3: s3.get_object(Bucket="bucket", Key="a b"), style="virtual")
    header("range", lambda s3: s3.get_object(Bucket="bucket", Key="k", Range="bytes=0-9"))
    presigned("presigned put", "put_object", {"Bucket": "bucket", "Key": "a+b c"}, "PUT")
    presigned("presigned put with type", "put_object", {"Bucket": "bucket", "Key": "k", "ContentType": "a/b"}, "PUT")
    presigned(
        "presigned overrides",
        "get_object",
        {"Bucket": "bucket", "Key": "k", "ResponseContentDisposition": 'attachment; filename="ä + b.txt"'},
        "GET",
        expires=604800,
    )
    presigned("presigned part", "upload_part", {"Bucket": "b", "Key": "k", "UploadId": "u+/=", "PartNumber": 1}, "PUT")
    presigned("presigned virtual host", "get_object", {"Bucket": "bucket", "Key": "a b"}, "GET", style="virtual")


if __name__ == "__main__":
    with mock.patch("botocore.auth.get_current_datetime", lambda remove_tzinfo=True: NOW.replace(tzinfo=None)):
        main()
    sys.stdout.flush()
