/**
 * What the peers need beside the bucket: a tus server that stores in a folder (/tus), and for Uppy's aws-s3 the two answers of a
 * multipart upload that carry no bytes (/s3). Prints its port. The bucket is no store for tus here: the emulator answers the empty
 * resumable upload that @tus/gcs-store 2.0.1 begins with by 500.
 *
 *     node server.js FOLDER
 */
import http from "node:http";
import { FileStore } from "@tus/file-store";
import { Server } from "@tus/server";

const [directory] = process.argv.slice(2);
const tus = new Server({ path: "/tus", datastore: new FileStore({ directory }) });

const started = "<InitiateMultipartUploadResult><UploadId>one</UploadId></InitiateMultipartUploadResult>";
const completed = (url) =>
  `<CompleteMultipartUploadResult><Location>${url}</Location><Key>benchmark</Key><ETag>"1"</ETag></CompleteMultipartUploadResult>`;

const server = http.createServer((request, response) => {
  if (request.url.startsWith("/tus")) {
    void tus.handle(request, response);
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
