//! Listings.

use http::Response;
use t2gate_backends::{
    AccountId, BucketInfo, BucketName, ChecksumAlgorithm, ChecksumType, Key, ListEntry, MultipartUpload, ObjectInfo,
    ObjectPage, PartPage, UploadEntry, UploadPage, VersionEntry, VersionId, VersionPage,
};

use super::{
    ResponseBody, STANDARD, check_listed, document, document_of, iso_date, listed, listed_len, quoted, write_account,
    write_checksum, write_listed,
};
use crate::s3::{
    S3Error,
    operation::{
        EncodingType, ListBuckets, ListMultipartUploads, ListObjectVersions, ListObjects, ListObjectsV2, ListParts,
    },
    token,
    xml::writer::XmlWriter,
};

/// What a listing has beside its entries, in bytes: prefix, delimiter, markers, each a name of the longest at worst.
const HEAD_BYTES: usize = 16 * 1024;

/// ListBuckets. `buckets` is the page, `is_truncated` says that more follow it. `region` is the configured one.
pub fn list_buckets(
    op: &ListBuckets,
    buckets: &[BucketInfo],
    is_truncated: bool,
    owner: &AccountId,
    region: &str,
) -> Response<ResponseBody> {
    document("ListAllMyBucketsResult", |xml| {
        write_account(xml, "Owner", owner);
        xml.element("Buckets", |xml| {
            for bucket in buckets {
                xml.element("Bucket", |xml| {
                    xml.text("Name", bucket.bucket.as_str());
                    xml.text("CreationDate", &iso_date(bucket.created));
                    xml.text("BucketRegion", region);
                });
            }
        });
        if let Some(last) = buckets.last().filter(|_| is_truncated) {
            xml.text("ContinuationToken", &token::encode(last.bucket.as_str()));
        }
        if !op.prefix.is_empty() {
            xml.text("Prefix", &op.prefix);
        }
    })
}

/// What all listings of objects have in common: they differ in where they begin and where they go on.
struct Listing<'a> {
    root: &'static str,
    bucket: &'a BucketName,
    prefix: &'a str,
    delimiter: Option<&'a str>,
    encoding_type: EncodingType,
    max_keys: usize,
    is_truncated: bool,
}

impl Listing<'_> {
    /// `bytes` is about what the entries take. Error: `InvalidRequest` where XML cannot represent a name and no encoding
    /// was asked for.
    fn document(
        &self,
        bytes: usize,
        write_markers: impl FnOnce(&mut XmlWriter),
        write_entries: impl FnOnce(&mut XmlWriter),
    ) -> Result<Response<ResponseBody>, S3Error> {
        let prefix = listed(self.prefix, self.encoding_type)?;
        let encode = |text| listed(text, self.encoding_type);
        let delimiter = self.delimiter.map(encode).transpose()?;
        Ok(document_of(HEAD_BYTES + bytes, self.root, |xml| {
            xml.text("Name", self.bucket.as_str());
            xml.text("Prefix", &prefix);
            write_markers(xml);
            xml.value("MaxKeys", self.max_keys);
            xml.optional("Delimiter", delimiter.as_deref());
            xml.value("IsTruncated", self.is_truncated);
            write_encoding_type(xml, self.encoding_type);
            write_entries(xml);
        }))
    }
}

/// ListObjects, version 1. `NextMarker` is there only with a delimiter, as in S3; without one the last key serves.
/// Error: see [`list_objects_v2`].
pub fn list_objects(op: &ListObjects, page: &ObjectPage, owner: &AccountId) -> Result<Response<ResponseBody>, S3Error> {
    let marker = listed(op.marker.as_deref().unwrap_or_default(), op.encoding_type)?;
    let next = page
        .entries
        .last()
        .filter(|_| page.is_truncated && op.delimiter.is_some());
    let entries = Entries::of(page, op.encoding_type)?;
    let listing = Listing {
        root: "ListBucketResult",
        bucket: &op.bucket,
        prefix: &op.prefix,
        delimiter: op.delimiter.as_deref(),
        encoding_type: op.encoding_type,
        max_keys: op.max_keys,
        is_truncated: page.is_truncated,
    };
    let write_markers = |xml: &mut XmlWriter| {
        xml.text("Marker", &marker);
        if let Some(next) = next {
            write_listed(xml, "NextMarker", next.name(), op.encoding_type);
        }
    };
    listing.document(entries.bytes(), write_markers, |xml| entries.write(xml, Some(owner)))
}

/// ListObjectsV2. Error: `InvalidRequest` where XML cannot represent a key and no encoding was asked for.
pub fn list_objects_v2(
    op: &ListObjectsV2,
    page: &ObjectPage,
    owner: &AccountId,
) -> Result<Response<ResponseBody>, S3Error> {
    let encode = |text| listed(text, op.encoding_type);
    let start_after = op.start_after.as_deref().map(encode).transpose()?;
    let next = page.entries.last().filter(|_| page.is_truncated);
    let entries = Entries::of(page, op.encoding_type)?;
    let listing = Listing {
        root: "ListBucketResult",
        bucket: &op.bucket,
        prefix: &op.prefix,
        delimiter: op.delimiter.as_deref(),
        encoding_type: op.encoding_type,
        max_keys: op.max_keys,
        is_truncated: page.is_truncated,
    };
    let write_markers = |xml: &mut XmlWriter| {
        xml.optional("StartAfter", start_after.as_deref());
        xml.optional("ContinuationToken", op.continuation_token.as_deref());
        if let Some(last) = next {
            xml.text("NextContinuationToken", &token::encode(last.name()));
        }
        xml.value("KeyCount", page.entries.len());
    };
    let owner = Some(owner).filter(|_| op.fetch_owner);
    listing.document(entries.bytes(), write_markers, |xml| entries.write(xml, owner))
}

/// ListObjectVersions: versions and delete markers in one order, then the common prefixes. `owner` is the bucket's. A page
/// that ends in a common prefix has no version to go on from, and names none. Error: see [`list_objects_v2`].
pub fn list_object_versions(
    op: &ListObjectVersions,
    page: &VersionPage,
    owner: &AccountId,
) -> Result<Response<ResponseBody>, S3Error> {
    let key_marker = listed(op.key_marker.as_deref().unwrap_or_default(), op.encoding_type)?;
    let next = page.entries.last().filter(|_| page.is_truncated);
    let mut bytes = 0;
    for entry in &page.entries {
        check_listed(entry.name(), op.encoding_type)?;
        bytes += listed_len(entry.name(), op.encoding_type) + VERSION_BYTES;
    }
    let listing = Listing {
        root: "ListVersionsResult",
        bucket: &op.bucket,
        prefix: &op.prefix,
        delimiter: op.delimiter.as_deref(),
        encoding_type: op.encoding_type,
        max_keys: op.max_keys,
        is_truncated: page.is_truncated,
    };
    let write_markers = |xml: &mut XmlWriter| {
        xml.text("KeyMarker", &key_marker);
        xml.text(
            "VersionIdMarker",
            op.version_id_marker.as_ref().map(VersionId::as_str).unwrap_or_default(),
        );
        if let Some(next) = next {
            write_listed(xml, "NextKeyMarker", next.name(), op.encoding_type);
            xml.optional("NextVersionIdMarker", next.version_id().map(VersionId::as_str));
        }
    };
    listing.document(bytes, write_markers, |xml| {
        for entry in &page.entries {
            write_version(xml, entry, op.encoding_type, owner);
        }
        for entry in &page.entries {
            if let VersionEntry::CommonPrefix(prefix) = entry {
                write_common_prefix(xml, prefix, op.encoding_type);
            }
        }
    })
}

/// ListMultipartUploads. `owner` is the bucket's. Error: see [`list_objects_v2`].
pub fn list_multipart_uploads(
    op: &ListMultipartUploads,
    page: &UploadPage,
    owner: &AccountId,
) -> Result<Response<ResponseBody>, S3Error> {
    let encode = |text: &str| listed(text, op.encoding_type).map(String::from);
    let (prefix, key_marker) = (
        encode(&op.prefix)?,
        encode(op.key_marker.as_deref().unwrap_or_default())?,
    );
    let delimiter = op.delimiter.as_deref().map(encode).transpose()?;
    let (mut uploads, mut prefixes) = (Vec::new(), Vec::new());
    for entry in &page.entries {
        match entry {
            UploadEntry::Upload(upload) => uploads.push((encode(upload.key.as_str())?, upload)),
            UploadEntry::CommonPrefix(prefix) => prefixes.push(encode(prefix)?),
        }
    }
    let next = match page.entries.last().filter(|_| page.is_truncated) {
        None => None,
        Some(UploadEntry::Upload(upload)) => Some((encode(upload.key.as_str())?, upload.upload_id.as_str())),
        Some(UploadEntry::CommonPrefix(prefix)) => Some((encode(prefix)?, "")),
    };
    Ok(document("ListMultipartUploadsResult", |xml| {
        xml.text("Bucket", op.bucket.as_str());
        xml.text("KeyMarker", &key_marker);
        xml.text(
            "UploadIdMarker",
            op.upload_id_marker.as_ref().map(|id| id.as_str()).unwrap_or_default(),
        );
        if let Some((key, upload_id)) = &next {
            xml.text("NextKeyMarker", key);
            xml.text("NextUploadIdMarker", upload_id);
        }
        xml.text("Prefix", &prefix);
        xml.optional("Delimiter", delimiter.as_deref());
        xml.value("MaxUploads", op.max_uploads);
        xml.value("IsTruncated", page.is_truncated);
        write_encoding_type(xml, op.encoding_type);
        for (key, upload) in &uploads {
            write_upload(xml, key, upload, owner);
        }
        write_prefixes(xml, &prefixes);
    }))
}

/// ListParts. `owner` is the bucket's. Error: see [`list_objects_v2`].
pub fn list_parts(op: &ListParts, page: &PartPage, owner: &AccountId) -> Result<Response<ResponseBody>, S3Error> {
    let key = listed(op.upload.key.as_str(), op.encoding_type)?;
    Ok(document("ListPartsResult", |xml| {
        xml.text("Bucket", op.upload.bucket.as_str());
        xml.text("Key", &key);
        xml.text("UploadId", op.upload.upload_id.as_str());
        write_account(xml, "Initiator", &page.upload.initiator);
        write_account(xml, "Owner", owner);
        xml.text("StorageClass", STANDARD);
        xml.value("PartNumberMarker", op.part_number_marker);
        if let Some(last) = page.parts.last() {
            xml.value("NextPartNumberMarker", last.part_number);
        }
        xml.value("MaxParts", op.max_parts);
        xml.value("IsTruncated", page.is_truncated);
        write_encoding_type(xml, op.encoding_type);
        write_declared(xml, page.upload.checksum);
        for part in &page.parts {
            xml.element("Part", |xml| {
                xml.value("PartNumber", part.part_number);
                xml.text("LastModified", &iso_date(part.last_modified));
                xml.text("ETag", &quoted(&part.etag));
                xml.value("Size", part.size);
                write_checksum(xml, part.checksum.as_ref());
            });
        }
    }))
}

/// What an object or a common prefix takes in a listing beside its name, in bytes.
const ENTRY_BYTES: usize = 640;
/// The same of a version, with its id.
const VERSION_BYTES: usize = ENTRY_BYTES + 192;

/// A page's entries, all of which can be written; S3 writes the objects first.
struct Entries<'a> {
    page: &'a ObjectPage,
    encoding_type: EncodingType,
}

impl<'a> Entries<'a> {
    fn of(page: &'a ObjectPage, encoding_type: EncodingType) -> Result<Self, S3Error> {
        for entry in &page.entries {
            check_listed(entry.name(), encoding_type)?;
        }
        Ok(Self { page, encoding_type })
    }

    /// About what they take in the document.
    fn bytes(&self) -> usize {
        let names = self
            .page
            .entries
            .iter()
            .map(|entry| listed_len(entry.name(), self.encoding_type));
        names.map(|name| name + ENTRY_BYTES).sum()
    }

    fn write(&self, xml: &mut XmlWriter, owner: Option<&AccountId>) {
        for entry in &self.page.entries {
            let ListEntry::Object(info) = entry else { continue };
            xml.element("Contents", |xml| {
                write_listed(xml, "Key", info.key.as_str(), self.encoding_type);
                write_object(xml, info, owner);
            });
        }
        for entry in &self.page.entries {
            let ListEntry::CommonPrefix(prefix) = entry else {
                continue;
            };
            write_common_prefix(xml, prefix, self.encoding_type);
        }
    }
}

/// What a listing tells of an object beside its name.
fn write_object(xml: &mut XmlWriter, info: &ObjectInfo, owner: Option<&AccountId>) {
    xml.text("LastModified", &iso_date(info.last_modified));
    xml.text("ETag", &quoted(&info.etag));
    if let Some(checksum) = &info.attributes.checksum {
        xml.text("ChecksumAlgorithm", checksum.algorithm.as_str());
        xml.text("ChecksumType", checksum.kind.as_str());
    }
    xml.value("Size", info.size);
    if let Some(owner) = owner {
        write_account(xml, "Owner", owner);
    }
    xml.text("StorageClass", STANDARD);
}

/// A version or a delete marker; nothing of a common prefix.
fn write_version(xml: &mut XmlWriter, entry: &VersionEntry, encoding_type: EncodingType, owner: &AccountId) {
    let name = |xml: &mut XmlWriter, key: &Key, version_id: Option<&VersionId>, is_latest: bool| {
        write_listed(xml, "Key", key.as_str(), encoding_type);
        xml.text("VersionId", version_id.map_or("null", VersionId::as_str));
        xml.value("IsLatest", is_latest);
    };
    match entry {
        VersionEntry::Object { info, is_latest } => xml.element("Version", |xml| {
            name(xml, &info.key, info.version_id.as_ref(), *is_latest);
            write_object(xml, info, Some(owner));
        }),
        VersionEntry::DeleteMarker(marker) => xml.element("DeleteMarker", |xml| {
            name(xml, &marker.key, Some(&marker.version_id), marker.is_latest);
            xml.text("LastModified", &iso_date(marker.last_modified));
            write_account(xml, "Owner", owner);
        }),
        VersionEntry::CommonPrefix(_) => {}
    }
}

fn write_common_prefix(xml: &mut XmlWriter, prefix: &str, encoding_type: EncodingType) {
    xml.element("CommonPrefixes", |xml| {
        write_listed(xml, "Prefix", prefix, encoding_type);
    });
}

fn write_upload(xml: &mut XmlWriter, key: &str, upload: &MultipartUpload, owner: &AccountId) {
    xml.element("Upload", |xml| {
        xml.text("Key", key);
        xml.text("UploadId", upload.upload_id.as_str());
        write_account(xml, "Initiator", &upload.initiator);
        write_account(xml, "Owner", owner);
        xml.text("StorageClass", STANDARD);
        xml.text("Initiated", &iso_date(upload.initiated));
        write_declared(xml, upload.checksum);
    });
}

fn write_declared(xml: &mut XmlWriter, declared: Option<(ChecksumAlgorithm, ChecksumType)>) {
    if let Some((algorithm, kind)) = declared {
        xml.text("ChecksumAlgorithm", algorithm.as_str());
        xml.text("ChecksumType", kind.as_str());
    }
}

fn write_prefixes(xml: &mut XmlWriter, prefixes: &[String]) {
    for prefix in prefixes {
        xml.element("CommonPrefixes", |xml| xml.text("Prefix", prefix));
    }
}

fn write_encoding_type(xml: &mut XmlWriter, encoding_type: EncodingType) {
    match encoding_type {
        EncodingType::Plain => {}
        EncodingType::Url => xml.text("EncodingType", "url"),
    }
}
