/** Walks a file through the real stack with the built client: interrupted, resumed, assembled, described, deleted. */
import assert from "node:assert/strict";
import { openAsBlob } from "node:fs";
import { createClient } from "@trainshed/client";

const [baseUrl, token, path, session] = process.argv.slice(2);
const client = createClient({ baseUrl }, { getToken: () => token });
const file = await openAsBlob(path, { type: "text/csv" });

assert.equal((await client.sessions.init(session, { by: "node" })).status, "initialized");

const page = new AbortController();
const first = client.uploads.start(file, { sessionId: session, fileName: "wind 🙂 50%.csv", signal: page.signal });
first.on("progress", ({ chunks }) => chunks.stored >= 1 && page.abort());
await assert.rejects(first.done, { code: "cancelled" });

// Another byte in every chunk: which of them were stored is chance.
const { chunkSize, totalChunks } = first.upload;
const pieces = Array.from({ length: totalChunks }, (_, index) => file.slice(index * chunkSize, (index + 1) * chunkSize));
const changed = new Blob(pieces.flatMap((piece) => [piece.slice(0, 5), "#", piece.slice(6)]));
const other = client.uploads.start(changed, { sessionId: session, uploadId: first.uploadId });
const resumed = client.uploads.start(file, { sessionId: session, uploadId: first.uploadId });
await assert.rejects(other.done, (error) => error.code === "file_changed" && error.details.index < totalChunks);
const upload = await resumed.done;
assert.equal(upload.state, "assembled");
assert.equal(upload.size, file.size);
assert.equal(resumed.table.columns[0].name, "time");
assert.equal(resumed.progress.storedBytes, file.size);

const known = client.uploads.start(file, { sessionId: session, fileName: "copy.csv", sha256: upload.sha256 });
assert.equal((await known.done).sha256, upload.sha256);

await assert.rejects(
  client.uploads.create({ sessionId: session, fileName: "huge.csv", size: 6 * 2 ** 40 }),
  (error) => error.status === 422 && error.details.field === "size",
);
const finalized = await client.sessions.finalize(session);
assert.equal(finalized.n_dat, upload.nRows * 2);
const { files } = await client.results.plotVariables(session, { points: 20, columns: ["temperature"] });
assert.equal(files[0].columns[0].mean, 18.25);
assert.deepEqual((await client.models.list(session)).models, []);
await assert.rejects(client.models.downloadUrl(session), { code: "model_not_found" });
await client.sessions.remove(session);
await assert.rejects(client.sessions.get(session), { code: "session_not_found", status: 404 });
console.log(`rows ${upload.nRows}`);
