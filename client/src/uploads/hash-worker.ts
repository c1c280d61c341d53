/**
 * The worker that reads a file for its checksums, so that the page stays free. Built into one file without
 * imports, so that it works with any bundler and with none.
 */

import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";

import { crc32cOf, pieces, type HashAnswer, type HashQuestion } from "./hashing.js";

globalThis.onmessage = (event: MessageEvent<HashQuestion>) => take(event.data);

// One after the other: two at once would only share the core and the disk.
let last: Promise<void> = Promise.resolve();

function take(question: HashQuestion): void {
  last = last.then(async () => {
    try {
      tell({ id: question.id, text: await answer(question) });
    } catch (error) {
      tell({ id: question.id, error: error instanceof Error ? error.message : String(error) });
    }
  });
}

function tell(message: HashAnswer): void {
  globalThis.postMessage(message);
}

async function answer({ kind, blob }: HashQuestion): Promise<string> {
  if (kind === "crc32c") return crc32cOf(blob);
  const hash = sha256.create();
  for await (const piece of pieces(blob)) hash.update(piece);
  return bytesToHex(hash.digest());
}
