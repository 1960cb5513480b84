//! Drives the gateway with the AWS SDK for Rust at its default settings.
//!
//! `t2gate-client-rust CASE BUCKET INPUT`: runs one case against a bucket that exists, with the bytes of the file INPUT. The
//! endpoint, the trusted authority and the key come from `T2_ENDPOINT`, `T2_CA`, `AWS_ACCESS_KEY_ID` and
//! `AWS_SECRET_ACCESS_KEY`. The exit code is 0 when the case held.

use std::{env, net::IpAddr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_s3::{
    Client,
    config::{Credentials, Region},
    error::ProvideErrorMetadata,
    presigning::PresigningConfig,
    primitives::ByteStream,
    types::{
        BucketVersioningStatus, ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, Delete, MetadataDirective,
        ObjectIdentifier,
    },
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns};
use tokio::task::JoinSet;

const PART_SIZE: usize = 8 * 1024 * 1024;

/// Sends every name to loopback, where `*.s3.localhost` lives; the names are still verified against the certificate.
#[derive(Debug, Clone)]
struct Loopback;

impl ResolveDns for Loopback {
    fn resolve_dns<'a>(&'a self, _name: &'a str) -> DnsFuture<'a> {
        DnsFuture::ready(Ok(vec![IpAddr::from([127, 0, 0, 1])]))
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [case, bucket, input] = arguments.as_slice() else {
        bail!("usage: t2gate-client-rust CASE BUCKET INPUT");
    };
    let endpoint = env::var("T2_ENDPOINT").context("T2_ENDPOINT")?;
    let input = tokio::fs::read(input).await.context("the input file")?;
    let s3 = client(&endpoint)?;
    match case.as_str() {
        "buckets" => buckets(&s3, bucket).await,
        "objects" => objects(&s3, bucket, &input).await,
        "keys" => keys(&s3, bucket).await,
        "multipart" => multipart(&s3, bucket, input).await,
        "conditional" => conditional(&s3, bucket).await,
        "versions" => versions(&s3, bucket).await,
        "virtual_host" => {
            let endpoint = env::var("T2_VIRTUAL_ENDPOINT").context("T2_VIRTUAL_ENDPOINT")?;
            objects(&client(&endpoint)?, bucket, &input[..1000]).await
        }
        "presign" => presign(&s3, bucket).await,
        other => bail!("no such case: {other}"),
    }
}

fn client(endpoint: &str) -> Result<Client> {
    let authority = std::fs::read(env::var("T2_CA").context("T2_CA")?)?;
    let tls = TlsContext::builder()
        .with_trust_store(TrustStore::empty().with_pem_certificate(authority))
        .build()?;
    let http = Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(tls)
        .build_with_resolver(Loopback);
    let credentials = Credentials::new(
        env::var("AWS_ACCESS_KEY_ID").context("AWS_ACCESS_KEY_ID")?,
        env::var("AWS_SECRET_ACCESS_KEY").context("AWS_SECRET_ACCESS_KEY")?,
        None,
        None,
        "environment",
    );
    let config = aws_sdk_s3::Config::builder()
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(credentials)
        .http_client(http)
        .build();
    Ok(Client::from_conf(config))
}

async fn get(s3: &Client, bucket: &str, key: &str) -> Result<Vec<u8>> {
    let answer = s3.get_object().bucket(bucket).key(key).send().await?;
    Ok(answer.body.collect().await?.to_vec())
}

/// The keys of the bucket, by pages of two.
async fn list(s3: &Client, bucket: &str) -> Result<Vec<String>> {
    let mut pages = s3.list_objects_v2().bucket(bucket).max_keys(2).into_paginator().send();
    let mut keys = Vec::new();
    while let Some(page) = pages.next().await {
        keys.extend(
            page?
                .contents()
                .iter()
                .filter_map(|object| object.key().map(String::from)),
        );
    }
    Ok(keys)
}

/// A history by pages of one, a marker by its id, an older version back.
async fn versions(s3: &Client, bucket: &str) -> Result<()> {
    let status = s3.get_bucket_versioning().bucket(bucket).send().await?;
    ensure!(status.status() == Some(&BucketVersioningStatus::Enabled), "{status:?}");
    let mut written = Vec::new();
    for text in ["first", "second"] {
        let put = s3.put_object().bucket(bucket).key("k");
        let put = put.body(ByteStream::from_static(text.as_bytes())).send().await?;
        written.push(put.version_id().context("no version id")?.to_owned());
    }
    let deleted = s3.delete_object().bucket(bucket).key("k").send().await?;
    ensure!(deleted.delete_marker() == Some(true), "{deleted:?}");
    let marker = deleted.version_id().context("no version id")?.to_owned();
    let by_id = |id: &str| s3.get_object().bucket(bucket).key("k").version_id(id);
    let refused = by_id(&marker).send().await.err().context("a marker was read")?;
    ensure!(refused.code() == Some("MethodNotAllowed"), "{refused:?}");

    let mut seen = Vec::new();
    let mut next = (None, None);
    loop {
        let list = s3.list_object_versions().bucket(bucket).max_keys(1);
        let list = list.set_key_marker(next.0).set_version_id_marker(next.1);
        let page = list.send().await?;
        let markers = page
            .delete_markers()
            .iter()
            .map(|each| (each.version_id(), each.is_latest()));
        let versions = page.versions().iter().map(|each| (each.version_id(), each.is_latest()));
        let entries = markers.chain(versions);
        seen.extend(entries.map(|(id, latest)| (id.map(str::to_owned), latest)));
        if page.is_truncated() != Some(true) {
            break;
        }
        next = (
            page.next_key_marker().map(str::to_owned),
            page.next_version_id_marker().map(str::to_owned),
        );
    }
    let history = [(&marker, true), (&written[1], false), (&written[0], false)];
    let history = history.map(|(id, latest)| (Some(id.clone()), Some(latest)));
    ensure!(seen == history, "{seen:?} is not {history:?}");

    let source = format!("{bucket}/k?versionId={}", written[0]);
    let copied = s3
        .copy_object()
        .bucket(bucket)
        .key("k")
        .copy_source(source)
        .send()
        .await?;
    ensure!(copied.copy_source_version_id() == Some(&written[0]), "{copied:?}");
    ensure!(get(s3, bucket, "k").await? == b"first", "the older version is not back");
    let old = by_id(&written[1]).send().await?.body.collect().await?;
    ensure!(old.to_vec() == b"second", "a version has other bytes");
    Ok(())
}

async fn buckets(s3: &Client, bucket: &str) -> Result<()> {
    let own = format!("{bucket}-own");
    s3.create_bucket().bucket(&own).send().await?;
    s3.head_bucket().bucket(&own).send().await?;
    let listed = s3.list_buckets().send().await?;
    ensure!(
        listed.buckets().iter().any(|b| b.name() == Some(&own)),
        "the new bucket is not listed"
    );
    s3.delete_bucket().bucket(&own).send().await?;
    let gone = s3
        .list_objects_v2()
        .bucket(&own)
        .send()
        .await
        .err()
        .context("a deleted bucket was listed")?;
    ensure!(gone.code() == Some("NoSuchBucket"), "{gone:?}");
    Ok(())
}

async fn objects(s3: &Client, bucket: &str, input: &[u8]) -> Result<()> {
    s3.put_object()
        .bucket(bucket)
        .key("stored")
        .content_type("text/x-rust")
        .metadata("colour", "blue")
        .body(input.to_vec().into())
        .send()
        .await?;
    s3.put_object()
        .bucket(bucket)
        .key("empty")
        .body(ByteStream::default())
        .send()
        .await?;
    ensure!(get(s3, bucket, "stored").await? == input, "other bytes came back");
    ensure!(get(s3, bucket, "empty").await?.is_empty(), "an empty object has bytes");

    let head = s3.head_object().bucket(bucket).key("stored").send().await?;
    ensure!(head.content_length() == Some(i64::try_from(input.len())?), "{head:?}");
    ensure!(head.content_type() == Some("text/x-rust"), "{head:?}");
    ensure!(
        head.metadata().and_then(|m| m.get("colour")).map(String::as_str) == Some("blue"),
        "{head:?}"
    );

    let range = s3
        .get_object()
        .bucket(bucket)
        .key("stored")
        .range("bytes=10-19")
        .send()
        .await?;
    ensure!(
        range.body.collect().await?.to_vec() == input[10..20],
        "the range differs"
    );

    s3.copy_object()
        .bucket(bucket)
        .key("a copy")
        .copy_source(format!("{bucket}/stored"))
        .metadata_directive(MetadataDirective::Replace)
        .metadata("colour", "red")
        .send()
        .await?;
    let copy = s3.head_object().bucket(bucket).key("a copy").send().await?;
    ensure!(
        copy.metadata().and_then(|m| m.get("colour")).map(String::as_str) == Some("red"),
        "{copy:?}"
    );
    ensure!(get(s3, bucket, "a copy").await? == input, "the copy differs");
    ensure!(
        list(s3, bucket).await? == ["a copy", "empty", "stored"],
        "the listing differs"
    );

    for algorithm in ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"] {
        s3.put_object()
            .bucket(bucket)
            .key("checked")
            .checksum_algorithm(ChecksumAlgorithm::from(algorithm))
            .body(input.to_vec().into())
            .send()
            .await
            .with_context(|| format!("put with {algorithm}"))?;
        ensure!(
            get(s3, bucket, "checked").await? == input,
            "other bytes came back with {algorithm}"
        );
    }
    s3.delete_object().bucket(bucket).key("checked").send().await?;
    let gone = s3
        .get_object()
        .bucket(bucket)
        .key("checked")
        .send()
        .await
        .err()
        .context("a deleted key was read")?;
    ensure!(gone.code() == Some("NoSuchKey"), "{gone:?}");

    let all = list(s3, bucket)
        .await?
        .into_iter()
        .map(|key| ObjectIdentifier::builder().key(key).build());
    let delete = Delete::builder()
        .set_objects(Some(all.collect::<Result<_, _>>()?))
        .build()?;
    let deleted = s3.delete_objects().bucket(bucket).delete(delete).send().await?;
    ensure!(
        deleted.deleted().len() == 3 && deleted.errors().is_empty(),
        "{deleted:?}"
    );
    ensure!(list(s3, bucket).await?.is_empty(), "keys are left");
    // What the test compares with the plain file.
    s3.put_object()
        .bucket(bucket)
        .key("kept/stored")
        .body(input.to_vec().into())
        .send()
        .await?;
    Ok(())
}

async fn keys(s3: &Client, bucket: &str) -> Result<()> {
    let mut keys: Vec<String> = env::var("T2_KEYS")
        .context("T2_KEYS")?
        .lines()
        .map(String::from)
        .collect();
    for key in &keys {
        s3.put_object()
            .bucket(bucket)
            .key(key)
            .body(key.as_bytes().to_vec().into())
            .send()
            .await?;
    }
    for key in &keys {
        ensure!(
            get(s3, bucket, key).await? == key.as_bytes(),
            "other bytes under {key:?}"
        );
    }
    keys.sort();
    let listed = list(s3, bucket).await?;
    ensure!(listed == keys, "listed {listed:?}");
    for key in &keys {
        s3.delete_object().bucket(bucket).key(key).send().await?;
    }
    ensure!(list(s3, bucket).await?.is_empty(), "keys are left");
    Ok(())
}

/// Parts go up in parallel; the first is copied from another object.
async fn multipart(s3: &Client, bucket: &str, input: Vec<u8>) -> Result<()> {
    s3.put_object()
        .bucket(bucket)
        .key("first")
        .body(input[..PART_SIZE].to_vec().into())
        .send()
        .await?;
    let created = s3
        .create_multipart_upload()
        .bucket(bucket)
        .key("kept/large")
        .send()
        .await?;
    let upload_id = created.upload_id().context("no UploadId")?.to_owned();

    let mut uploads = JoinSet::new();
    for (index, part) in input.chunks(PART_SIZE).enumerate().skip(1) {
        let number = i32::try_from(index + 1)?;
        let request = s3
            .upload_part()
            .bucket(bucket)
            .key("kept/large")
            .upload_id(&upload_id)
            .part_number(number)
            .body(part.to_vec().into());
        uploads.spawn(async move {
            let uploaded = request.send().await?;
            let part = CompletedPart::builder()
                .part_number(number)
                .set_e_tag(uploaded.e_tag)
                .set_checksum_crc32(uploaded.checksum_crc32);
            anyhow::Ok(part.build())
        });
    }
    let copied = s3
        .upload_part_copy()
        .bucket(bucket)
        .key("kept/large")
        .upload_id(&upload_id)
        .part_number(1)
        .copy_source(format!("{bucket}/first"))
        .send()
        .await?;
    let copied = copied.copy_part_result().context("no CopyPartResult")?;
    let first = CompletedPart::builder()
        .part_number(1)
        .set_e_tag(copied.e_tag.clone())
        .set_checksum_crc32(copied.checksum_crc32.clone());
    let mut parts = vec![first.build()];
    while let Some(uploaded) = uploads.join_next().await {
        parts.push(uploaded??);
    }
    parts.sort_by_key(CompletedPart::part_number);
    let listed = s3
        .list_parts()
        .bucket(bucket)
        .key("kept/large")
        .upload_id(&upload_id)
        .send()
        .await?;
    ensure!(listed.parts().len() == parts.len(), "{listed:?}");

    let count = parts.len();
    let completed = s3
        .complete_multipart_upload()
        .bucket(bucket)
        .key("kept/large")
        .upload_id(&upload_id)
        .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
        .send()
        .await?;
    let etag = completed.e_tag().context("no ETag")?;
    ensure!(
        etag.trim_matches('"').ends_with(&format!("-{count}")),
        "the ETag is {etag}"
    );
    ensure!(get(s3, bucket, "kept/large").await? == input, "other bytes came back");

    let abandoned = s3.create_multipart_upload().bucket(bucket).key("never").send().await?;
    let abandoned = abandoned.upload_id().context("no UploadId")?;
    s3.abort_multipart_upload()
        .bucket(bucket)
        .key("never")
        .upload_id(abandoned)
        .send()
        .await?;
    let uploads = s3.list_multipart_uploads().bucket(bucket).send().await?;
    ensure!(uploads.uploads().is_empty(), "{uploads:?}");
    Ok(())
}

async fn conditional(s3: &Client, bucket: &str) -> Result<()> {
    let put = || {
        s3.put_object()
            .bucket(bucket)
            .key("once")
            .body(b"first".to_vec().into())
    };
    let etag = put().if_none_match("*").send().await?.e_tag.context("no ETag")?;
    let refused = put().if_none_match("*").send().await.err().context("created twice")?;
    ensure!(refused.code() == Some("PreconditionFailed"), "{refused:?}");
    put().if_match(&etag).send().await?;
    let stale = put().if_match("\"00000000000000000000000000000000\"").send().await;
    ensure!(
        stale.err().is_some_and(|e| e.code() == Some("PreconditionFailed")),
        "a stale ETag was accepted"
    );
    let unchanged = s3
        .get_object()
        .bucket(bucket)
        .key("once")
        .if_none_match(&etag)
        .send()
        .await;
    let unchanged = unchanged.err().context("sent what had not changed")?;
    ensure!(
        unchanged.raw_response().map(|r| r.status().as_u16()) == Some(304),
        "{unchanged:?}"
    );
    Ok(())
}

/// Prints a presigned PUT and GET, one a line; the test performs them.
async fn presign(s3: &Client, bucket: &str) -> Result<()> {
    let hour = PresigningConfig::expires_in(Duration::from_secs(3600))?;
    let put = s3
        .put_object()
        .bucket(bucket)
        .key("pre signed+=&.txt")
        .presigned(hour.clone())
        .await?;
    let get = s3
        .get_object()
        .bucket(bucket)
        .key("pre signed+=&.txt")
        .presigned(hour)
        .await?;
    println!("{}\n{}", put.uri(), get.uri());
    Ok(())
}
