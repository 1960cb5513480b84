// Many requests at once, with the SDK's own settings: over a rate limit it has to find its way by itself.
//
//   node burst.mjs BUCKET COUNT

import { GetObjectCommand, HeadObjectCommand, S3Client } from "@aws-sdk/client-s3";

const [bucket, count] = process.argv.slice(2);
const client = new S3Client({ forcePathStyle: true });
const ask = async (Command) => {
  const answer = await client.send(new Command({ Bucket: bucket, Key: "key" }));
  await answer.Body?.transformToByteArray();
};
for (const Command of [GetObjectCommand, HeadObjectCommand]) {
  await Promise.all(Array.from({ length: Number(count) }, () => ask(Command)));
}
