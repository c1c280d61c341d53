/** Uploads by the peers, as their documentation has them set up; chunks as large as the client's. */
import AwsS3 from "@uppy/aws-s3";
import Uppy from "@uppy/core";
import * as tus from "tus-js-client";

/** Send a file in parts to addresses that were signed before; everything else of S3's multipart upload is at `endpoint`. */
window.uploadByUppy = async (file, chunks, chunkSize, endpoint) => {
  const signRequest = ({ partNumber, uploadId }) => {
    if (partNumber) return chunks[partNumber - 1];
    return { url: `${endpoint}?${uploadId ? "uploadId" : "uploads"}` };
  };
  const uppy = new Uppy().use(AwsS3, { shouldUseMultipart: true, getChunkSize: () => chunkSize, signRequest });
  uppy.addFile({ name: file.name, type: file.type, data: file });
  const { failed } = await uppy.upload();
  if (failed.length > 0) throw new Error(failed[0].error);
};

window.uploadByTus = (file, endpoint) =>
  new Promise((resolve, reject) => {
    const upload = new tus.Upload(file, { endpoint, metadata: { filename: file.name }, onSuccess: resolve, onError: reject });
    upload.start();
  });
