/**
 * What the peers need beside the bucket: tus servers that store in a bucket (/tus-bucket) and in a folder (/tus-folder), and for
 * Uppy's aws-s3 the two answers of a multipart upload that carry no bytes (/s3). Prints its port.
 *
 *     node server.js FOLDER BUCKET EMULATOR_URL
 */
import { randomUUID } from "node:crypto";
import http from "node:http";
import { Storage } from "@google-cloud/storage";
import { FileStore } from "@tus/file-store";
import { GCSStore } from "@tus/gcs-store";
import { Server } from "@tus/server";

const [directory, bucketName, apiEndpoint] = process.argv.slice(2);
const bucket = new Storage({ apiEndpoint, projectId: "benchmark" }).bucket(bucketName);

// @tus/gcs-store writes numbers into an object's metadata. Cloud Storage takes them as texts; the emulator answers by 500.
const fileOf = bucket.file.bind(bucket);
bucket.file = (name) => {
  const file = fileOf(name);
  const write = file.createWriteStream.bind(file);
  file.createWriteStream = (options) => {
    const entries = Object.entries(options.metadata.metadata).map(([key, value]) => [key, String(value)]);
    return write({ ...options, metadata: { ...options.metadata, metadata: Object.fromEntries(entries) } });
  };
  return file;
};

const tus = Object.entries({ "/tus-bucket": new GCSStore({ bucket }), "/tus-folder": new FileStore({ directory }) }).map(
  ([path, datastore]) => new Server({ path, datastore, namingFunction: () => `tus-${randomUUID()}` }),
);

const started = "<InitiateMultipartUploadResult><UploadId>one</UploadId></InitiateMultipartUploadResult>";
const completed = (url) =>
  `<CompleteMultipartUploadResult><Location>${url}</Location><Key>benchmark</Key><ETag>"1"</ETag></CompleteMultipartUploadResult>`;

const server = http.createServer((request, response) => {
  const to = tus.find(({ options }) => request.url.startsWith(options.path));
  if (to) {
    void to.handle(request, response);
    return;
  }
  request.resume().on("end", () => {
    response.setHeader("Access-Control-Allow-Origin", "*");
    response.setHeader("Access-Control-Allow-Headers", "*");
    response.setHeader("Access-Control-Expose-Headers", "*");
    response.setHeader("Content-Type", "application/xml");
    response.end(request.url.endsWith("?uploads") ? started : completed("http://localhost/benchmark"));
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
