/** Uploads by the peers, as their documentation has them set up; chunks as large as the client's. */
import AwsS3 from "@uppy/aws-s3";
import Uppy from "@uppy/core";
import * as tus from "tus-js-client";

/**
 * Send a file in parts. Their addresses are `chunks`, signed before; or without those `signing`, which signs each when Uppy asks.
 * Everything else of S3's multipart upload is at `endpoint`.
 */
window.uploadByUppy = async (file, chunkSize, endpoint, chunks, signing) => {
  const sign = async (index) => {
    const headers = { Authorization: `Bearer ${signing.token}`, "Content-Type": "application/json" };
    const answer = await fetch(signing.url, { method: "POST", headers, body: JSON.stringify({ chunks: [{ index }] }) });
    return (await answer.json()).data.chunks[0];
  };
  const signRequest = ({ partNumber, uploadId }) => {
    if (partNumber) return chunks?.[partNumber - 1] ?? sign(partNumber - 1);
    return { url: `${endpoint}?${uploadId ? "uploadId" : "uploads"}` };
  };
  const uppy = new Uppy().use(AwsS3, { shouldUseMultipart: true, getChunkSize: () => chunkSize, signRequest });
  uppy.addFile({ name: file.name, type: file.type, data: file });
  const { failed } = await uppy.upload();
  if (failed.length > 0) throw new Error(failed[0].error);
};

/** Send a file in parts by requests alone: no checksums, nothing signed meanwhile, nothing that could go wrong is looked at. */
window.uploadBare = async (file, chunkSize, chunks, concurrency) => {
  const waiting = [...chunks.keys()];
  const put = (index) =>
    new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("PUT", chunks[index].url);
      for (const [name, value] of Object.entries(chunks[index].headers)) request.setRequestHeader(name, value);
      request.onload = () => (request.status === 200 ? resolve() : reject(new Error(request.responseText)));
      request.onerror = () => reject(new Error("no answer"));
      request.send(file.slice(index * chunkSize, (index + 1) * chunkSize));
    });
  const send = async () => {
    while (waiting.length > 0) await put(waiting.shift());
  };
  await Promise.all(Array.from({ length: concurrency }, send));
};

window.uploadByTus = (file, endpoint) =>
  new Promise((resolve, reject) => {
    const upload = new tus.Upload(file, { endpoint, metadata: { filename: file.name }, onSuccess: resolve, onError: reject });
    upload.start();
  });
