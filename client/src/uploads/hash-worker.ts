/**
 * The worker that reads a file for its checksums, so that the page stays free. Built into one file without
 * imports, so that it works with any bundler and with none.
 */

import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";

import { crc32cOf, type HashAnswer, type HashQuestion } from "./hashing.js";
import { Reading } from "./reading.js";

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

async function answer({ kind, source, file, from, to }: HashQuestion): Promise<string> {
  const pieces = readingOf(source, file).pieces(from, to);
  if (kind === "crc32c") return crc32cOf(pieces);
  const hash = sha256.create();
  for await (const piece of pieces) hash.update(piece);
  return bytesToHex(hash.digest());
}

// Chunks of several files are asked for in turns; a page seldom sends more files at once.
const MOST_READINGS = 4;
const readings = new Map<number, Reading>();

function readingOf(source: number, file: Blob): Reading {
  const reading = readings.get(source) ?? new Reading(file);
  readings.set(source, reading);
  const [oldest] = readings;
  if (oldest && readings.size > MOST_READINGS) {
    oldest[1].close();
    readings.delete(oldest[0]);
  }
  return reading;
}
