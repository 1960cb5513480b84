"""boto3: buckets and their settings, with what is not there told truthfully."""

import botocore.handlers
import pytest

from gateway import REGION


def test_create_list_head_delete(s3, bucket, refused):
    own = f"{bucket}-own"
    assert s3.create_bucket(Bucket=own)["Location"].endswith(own)
    assert s3.head_bucket(Bucket=own)["BucketRegion"] == REGION
    listed = s3.list_buckets()
    assert own in [entry["Name"] for entry in listed["Buckets"]]
    assert listed["Owner"]["ID"]
    s3.delete_bucket(Bucket=own)
    refused(404, "404", s3.head_bucket, Bucket=own)
    refused(404, "NoSuchBucket", s3.delete_bucket, Bucket=own)


def test_list_buckets_by_pages_and_prefix(s3, bucket):
    own = [f"{bucket}-{number}" for number in range(3)]
    for name in own:
        s3.create_bucket(Bucket=name)
    page = s3.list_buckets(Prefix=f"{bucket}-", MaxBuckets=2)
    assert [entry["Name"] for entry in page["Buckets"]] == own[:2]
    page = s3.list_buckets(Prefix=f"{bucket}-", MaxBuckets=2, ContinuationToken=page["ContinuationToken"])
    assert [entry["Name"] for entry in page["Buckets"]] == own[2:]
    assert "ContinuationToken" not in page
    for name in own:
        s3.delete_bucket(Bucket=name)


def test_a_bucket_is_made_once(s3, bucket, refused):
    refused(409, "BucketAlreadyOwnedByYou", s3.create_bucket, Bucket=bucket)


def test_a_bucket_with_an_object_stays(s3, bucket, refused):
    s3.put_object(Bucket=bucket, Key="dir/k", Body=b"x")
    refused(409, "BucketNotEmpty", s3.delete_bucket, Bucket=bucket)
    assert s3.get_object(Bucket=bucket, Key="dir/k")["Body"].read() == b"x"


@pytest.mark.parametrize("name", ["with.dot", "ab-", "Upper-Case", "x" * 64, "under_score"])
def test_bad_names_are_refused(s3, refused, name):
    def create():
        # botocore would refuse some of these itself.
        s3.meta.events.unregister("before-parameter-build.s3", botocore.handlers.validate_bucket_name)
        try:
            return s3.create_bucket(Bucket=name)
        finally:
            s3.meta.events.register("before-parameter-build.s3", botocore.handlers.validate_bucket_name)

    refused(400, "InvalidBucketName", create)


def test_location(s3, bucket):
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None


@pytest.mark.parametrize(
    "call, keywords, expected",
    [
        ("get_bucket_accelerate_configuration", {}, {}),
        ("get_bucket_request_payment", {}, {"Payer": "BucketOwner"}),
        ("get_bucket_logging", {}, {}),
        ("get_bucket_notification_configuration", {}, {}),
        ("list_bucket_analytics_configurations", {}, {"IsTruncated": False}),
        ("list_bucket_inventory_configurations", {}, {"IsTruncated": False}),
        ("list_bucket_metrics_configurations", {}, {"IsTruncated": False}),
        ("list_bucket_intelligent_tiering_configurations", {}, {"IsTruncated": False}),
    ],
)
def test_settings_that_read_as_empty(s3, bucket, call, keywords, expected):
    answer = getattr(s3, call)(Bucket=bucket, **keywords)
    answer.pop("ResponseMetadata")
    assert answer == expected


@pytest.mark.parametrize(
    "call, keywords, code",
    [
        ("get_bucket_policy", {}, "NoSuchBucketPolicy"),
        ("get_bucket_policy_status", {}, "NoSuchBucketPolicy"),
        ("get_bucket_tagging", {}, "NoSuchTagSet"),
        ("get_bucket_website", {}, "NoSuchWebsiteConfiguration"),
        ("get_bucket_replication", {}, "ReplicationConfigurationNotFoundError"),
        ("get_bucket_ownership_controls", {}, "OwnershipControlsNotFoundError"),
        ("get_public_access_block", {}, "NoSuchPublicAccessBlockConfiguration"),
        ("get_bucket_encryption", {}, "ServerSideEncryptionConfigurationNotFoundError"),
        ("get_bucket_lifecycle_configuration", {}, "NoSuchLifecycleConfiguration"),
        ("get_bucket_cors", {}, "NoSuchCORSConfiguration"),
        ("delete_bucket_cors", {}, "NoSuchCORSConfiguration"),
        ("delete_bucket_encryption", {}, "ServerSideEncryptionConfigurationNotFoundError"),
        ("delete_bucket_lifecycle", {}, "NoSuchLifecycleConfiguration"),
        ("get_object_lock_configuration", {}, "ObjectLockConfigurationNotFoundError"),
        ("get_bucket_analytics_configuration", {"Id": "i"}, "NoSuchConfiguration"),
        ("get_bucket_inventory_configuration", {"Id": "i"}, "NoSuchConfiguration"),
        ("get_bucket_metrics_configuration", {"Id": "i"}, "NoSuchConfiguration"),
        ("get_bucket_intelligent_tiering_configuration", {"Id": "i"}, "NoSuchConfiguration"),
    ],
)
def test_settings_that_are_not_there(s3, bucket, refused, call, keywords, code):
    if call == "get_bucket_policy_status":
        try:
            # Either answer is true: there is no policy, and the bucket is not public.
            assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"] == {"IsPublic": False}
            return
        except s3.exceptions.ClientError as error:
            assert error.response["Error"]["Code"] == code
            return
    refused(404, code, getattr(s3, call), Bucket=bucket, **keywords)


@pytest.mark.parametrize(
    "call, keywords",
    [
        ("put_bucket_policy", {"Policy": "{}"}),
        ("delete_bucket_policy", {}),
        ("put_bucket_tagging", {"Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]}}),
        ("delete_bucket_tagging", {}),
        ("put_bucket_website", {"WebsiteConfiguration": {"IndexDocument": {"Suffix": "i"}}}),
        ("delete_bucket_website", {}),
        ("delete_bucket_replication", {}),
        ("put_bucket_logging", {"BucketLoggingStatus": {"LoggingEnabled": {"TargetBucket": "b", "TargetPrefix": "p"}}}),
        ("put_bucket_notification_configuration", {"NotificationConfiguration": {"EventBridgeConfiguration": {}}}),
        ("put_bucket_request_payment", {"RequestPaymentConfiguration": {"Payer": "Requester"}}),
        ("put_bucket_accelerate_configuration", {"AccelerateConfiguration": {"Status": "Enabled"}}),
        ("delete_bucket_ownership_controls", {}),
        ("delete_public_access_block", {}),
        ("delete_bucket_metrics_configuration", {"Id": "i"}),
    ],
)
def test_settings_that_cannot_be_made(s3, bucket, refused, call, keywords):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    refused(501, "NotImplemented", getattr(s3, call), Bucket=bucket, **keywords)
    s3.head_bucket(Bucket=bucket)


def test_settings_of_a_missing_bucket_are_404(s3, refused):
    for call in ("get_bucket_acl", "get_bucket_versioning", "get_bucket_location", "get_bucket_policy"):
        refused(404, "NoSuchBucket", getattr(s3, call), Bucket="no-such-bucket-here")


def test_a_file_in_the_root_is_no_bucket(s3, gateway):
    (gateway.data / "just-a-file").write_text("x")
    assert "just-a-file" not in [entry["Name"] for entry in s3.list_buckets()["Buckets"]]
    (gateway.data / "just-a-file").unlink()
