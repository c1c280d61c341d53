/** Reports what the client adds to a page: bundled and minified, as it is and compressed. `npm run size` */
import { readFileSync } from "node:fs";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { rolldown } from "rolldown";

const bundle = await rolldown({ input: "dist/index.js" });
const { output } = await bundle.generate({ format: "esm", minify: true });
const parts = { page: Buffer.from(output[0].code), worker: readFileSync("dist/uploads/hash-worker.js") };
for (const [name, code] of Object.entries(parts)) {
  console.log(`${name.padEnd(7)} ${kib(code.length)} minified, ${kib(gzipSync(code).length)} gzip, ${kib(brotliCompressSync(code).length)} brotli`);
}

function kib(bytes) {
  return `${(bytes / 1024).toFixed(1)} KiB`;
}
