// Drives the gateway with the AWS SDK for JavaScript at its default settings.
//
// node client.mjs CASE BUCKET INPUT: runs one case against a bucket that exists, with the bytes of the file INPUT. Endpoint and
// credentials come from the SDK's own variables, the trusted authority from NODE_EXTRA_CA_CERTS.

import assert from "node:assert/strict";
import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import https from "node:https";

import {
  AbortMultipartUploadCommand,
  CopyObjectCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetBucketVersioningCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListBucketsCommand,
  ListMultipartUploadsCommand,
  ListObjectVersionsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  paginateListObjectsV2,
  waitUntilObjectNotExists,
} from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";
import { NodeHttpHandler } from "@smithy/node-http-handler";

async function get(s3, bucket, key) {
  const answer = await s3.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
  return Buffer.from(await answer.Body.transformToByteArray());
}

/** The keys of the bucket, by pages of two. */
async function list(s3, bucket) {
  const keys = [];
  for await (const page of paginateListObjectsV2({ client: s3, pageSize: 2 }, { Bucket: bucket })) {
    keys.push(...(page.Contents ?? []).map((object) => object.Key));
  }
  return keys;
}

async function refused(promise, name, status) {
  await assert.rejects(promise, (error) => {
    assert.deepEqual([error.name, error.$metadata?.httpStatusCode], [name, status]);
    return true;
  });
}

async function buckets(s3, bucket) {
  const own = `${bucket}-own`;
  await s3.send(new CreateBucketCommand({ Bucket: own }));
  await s3.send(new HeadBucketCommand({ Bucket: own }));
  const { Buckets } = await s3.send(new ListBucketsCommand({}));
  assert(Buckets.some((listed) => listed.Name === own));
  await s3.send(new DeleteBucketCommand({ Bucket: own }));
  await refused(s3.send(new ListObjectsV2Command({ Bucket: own })), "NoSuchBucket", 404);
}

async function objects(s3, bucket, input) {
  const bytes = (await readFile(input)).subarray(0, 100_000);
  await s3.send(
    new PutObjectCommand({
      Bucket: bucket,
      Key: "stored",
      Body: bytes,
      ContentType: "text/x-node",
      Metadata: { colour: "blue" },
    }),
  );
  await s3.send(new PutObjectCommand({ Bucket: bucket, Key: "empty" }));
  assert((await get(s3, bucket, "stored")).equals(bytes));
  assert.equal((await get(s3, bucket, "empty")).length, 0);

  const head = await s3.send(new HeadObjectCommand({ Bucket: bucket, Key: "stored" }));
  assert.equal(head.ContentLength, bytes.length);
  assert.equal(head.ContentType, "text/x-node");
  assert.deepEqual(head.Metadata, { colour: "blue" });

  const range = await s3.send(new GetObjectCommand({ Bucket: bucket, Key: "stored", Range: "bytes=10-19" }));
  assert(bytes.subarray(10, 20).equals(Buffer.from(await range.Body.transformToByteArray())));

  await s3.send(
    new CopyObjectCommand({
      Bucket: bucket,
      Key: "a copy",
      CopySource: `${bucket}/stored`,
      MetadataDirective: "REPLACE",
      Metadata: { colour: "red" },
    }),
  );
  const copy = await s3.send(new HeadObjectCommand({ Bucket: bucket, Key: "a copy" }));
  assert.deepEqual(copy.Metadata, { colour: "red" });
  assert((await get(s3, bucket, "a copy")).equals(bytes));
  assert.deepEqual(await list(s3, bucket), ["a copy", "empty", "stored"]);

  // A stream of known length goes up as it is read.
  await s3.send(
    new PutObjectCommand({
      Bucket: bucket,
      Key: "kept/stored",
      Body: createReadStream(input),
      ContentLength: (await readFile(input)).length,
    }),
  );

  await s3.send(new DeleteObjectCommand({ Bucket: bucket, Key: "a copy" }));
  await waitUntilObjectNotExists({ client: s3, maxWaitTime: 10 }, { Bucket: bucket, Key: "a copy" });
  await refused(get(s3, bucket, "a copy"), "NoSuchKey", 404);
  const deleted = await s3.send(
    new DeleteObjectsCommand({ Bucket: bucket, Delete: { Objects: [{ Key: "empty" }, { Key: "stored" }] } }),
  );
  assert.deepEqual(deleted.Deleted.map((each) => each.Key).sort(), ["empty", "stored"]);
  assert.deepEqual(await list(s3, bucket), ["kept/stored"]);
}

async function checksums(s3, bucket) {
  for (const algorithm of ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]) {
    const put = new PutObjectCommand({ Bucket: bucket, Key: algorithm, Body: "hello", ChecksumAlgorithm: algorithm });
    const answer = await s3.send(put);
    assert(answer[`Checksum${algorithm}`], `no checksum in the answer to ${algorithm}`);
    assert.equal((await get(s3, bucket, algorithm)).toString(), "hello");
  }
}

async function keys(s3, bucket) {
  const wanted = process.env.T2_KEYS.split("\n").concat("double//slash", "equals=/plus+/double//x");
  for (const key of wanted) {
    await s3.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: key }));
  }
  for (const key of wanted) {
    assert.equal((await get(s3, bucket, key)).toString(), key);
  }
  const inByteOrder = [...wanted].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  assert.deepEqual(await list(s3, bucket), inByteOrder);
  for (const key of wanted) {
    await s3.send(new DeleteObjectCommand({ Bucket: bucket, Key: key }));
  }
  assert.deepEqual(await list(s3, bucket), []);
}

async function multipart(s3, bucket, input) {
  const upload = new Upload({
    client: s3,
    params: { Bucket: bucket, Key: "kept/large", Body: createReadStream(input), ContentType: "video/x-large" },
    partSize: 8 * 1024 * 1024,
    queueSize: 4,
  });
  const done = await upload.done();
  assert.match(done.ETag, /-4"$/);
  assert((await get(s3, bucket, "kept/large")).equals(await readFile(input)));
  const head = await s3.send(new HeadObjectCommand({ Bucket: bucket, Key: "kept/large", PartNumber: 2 }));
  assert.equal(head.PartsCount, 4);
  assert.equal(head.ContentLength, 8 * 1024 * 1024);

  const begun = await s3.send(new CreateMultipartUploadCommand({ Bucket: bucket, Key: "never" }));
  await s3.send(new AbortMultipartUploadCommand({ Bucket: bucket, Key: "never", UploadId: begun.UploadId }));
  const { Uploads } = await s3.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
  assert.deepEqual(Uploads ?? [], []);
}

async function conditional(s3, bucket) {
  const put = (more) => s3.send(new PutObjectCommand({ Bucket: bucket, Key: "once", Body: "first", ...more }));
  const { ETag } = await put({ IfNoneMatch: "*" });
  await refused(put({ IfNoneMatch: "*" }), "PreconditionFailed", 412);
  await put({ IfMatch: ETag });
  await refused(put({ IfMatch: '"00000000000000000000000000000000"' }), "PreconditionFailed", 412);
}

/** A history by pages of one, a marker by its id, an older version back. */
async function versions(s3, bucket) {
  const object = { Bucket: bucket, Key: "k" };
  const { Status } = await s3.send(new GetBucketVersioningCommand({ Bucket: bucket }));
  assert.equal(Status, "Enabled");
  const first = await s3.send(new PutObjectCommand({ ...object, Body: "first" }));
  const second = await s3.send(new PutObjectCommand({ ...object, Body: "second" }));
  const marker = await s3.send(new DeleteObjectCommand(object));
  assert.equal(marker.DeleteMarker, true);
  await refused(get(s3, bucket, "k"), "NoSuchKey", 404);
  await refused(
    s3.send(new GetObjectCommand({ ...object, VersionId: marker.VersionId })),
    "MethodNotAllowed",
    405,
  );
  const seen = [];
  let next = {};
  do {
    const page = await s3.send(new ListObjectVersionsCommand({ Bucket: bucket, MaxKeys: 1, ...next }));
    seen.push(...(page.DeleteMarkers ?? []), ...(page.Versions ?? []));
    next = page.IsTruncated && { KeyMarker: page.NextKeyMarker, VersionIdMarker: page.NextVersionIdMarker };
  } while (next);
  assert.deepEqual(
    seen.map(({ VersionId, IsLatest }) => [VersionId, IsLatest]),
    [
      [marker.VersionId, true],
      [second.VersionId, false],
      [first.VersionId, false],
    ],
  );
  const old = await s3.send(new GetObjectCommand({ ...object, VersionId: first.VersionId }));
  assert.equal(await old.Body.transformToString(), "first");
  const source = `${bucket}/k?versionId=${first.VersionId}`;
  const copied = await s3.send(new CopyObjectCommand({ ...object, CopySource: source }));
  assert.equal(copied.CopySourceVersionId, first.VersionId);
  assert.equal((await get(s3, bucket, "k")).toString(), "first");
  const Objects = [marker, second].map(({ VersionId }) => ({ Key: "k", VersionId }));
  const { Deleted } = await s3.send(new DeleteObjectsCommand({ Bucket: bucket, Delete: { Objects } }));
  assert.deepEqual(
    Deleted.map((each) => [each.VersionId, each.DeleteMarker]),
    [
      [marker.VersionId, true],
      [second.VersionId, undefined],
    ],
  );
}

/** The bucket is in the host name. Only its resolution is injected: the certificate is still verified. */
async function virtualHost(bucket, input) {
  const lookup = (_name, options, callback) =>
    options.all ? callback(null, [{ address: "127.0.0.1", family: 4 }]) : callback(null, "127.0.0.1", 4);
  const s3 = new S3Client({
    endpoint: process.env.T2_VIRTUAL_ENDPOINT,
    requestHandler: new NodeHttpHandler({ httpsAgent: new https.Agent({ lookup }) }),
  });
  await objects(s3, bucket, input);
}

/** Prints a presigned PUT and GET, one a line; the test performs them. */
async function presign(_default, bucket) {
  const s3 = new S3Client({ requestChecksumCalculation: "WHEN_REQUIRED" });
  const object = { Bucket: bucket, Key: "pre signed+=&.txt" };
  console.log(await getSignedUrl(s3, new PutObjectCommand(object), { expiresIn: 3600 }));
  console.log(await getSignedUrl(s3, new GetObjectCommand(object), { expiresIn: 3600 }));
}

/** At its defaults the presigner signs the checksum of the body that it has, which is none: the URL is for an empty object. */
async function presignEmpty(s3, bucket) {
  console.log(await getSignedUrl(s3, new PutObjectCommand({ Bucket: bucket, Key: "empty" }), { expiresIn: 3600 }));
}

/** The presigner moves `x-amz-*` headers into the query; there they have to count as the headers that they were. */
async function presignCopy(s3, bucket) {
  const copy = new CopyObjectCommand({ Bucket: bucket, Key: "copied", CopySource: `${bucket}/source` });
  console.log(await getSignedUrl(s3, copy, { expiresIn: 3600 }));
}

const [name, bucket, input] = process.argv.slice(2);
const cases = { buckets, objects, checksums, keys, multipart, conditional, versions, presign, presignCopy, presignEmpty };
if (name === "virtualHost") {
  await virtualHost(bucket, input);
} else {
  assert(cases[name], `no such case: ${name}`);
  await cases[name](new S3Client({}), bucket, input);
}
