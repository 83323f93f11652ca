// The fingerprint of a file: enough to find its own open upload again, cheap for any size. Version 1 is described in
// docs/api.md ("Resume") and shared with the Python client by tests/vectors/fingerprint.json.

import { hex } from "./checksums.js";
import { MIB } from "./plan.js";
import { Sha256 } from "./sha256.js";

const SAMPLE_BYTES = 65_536;
const SAMPLE_COUNT = 14;
const WHOLE_BELOW_BYTES = 2 * MIB; // below this, sampling would read as much as all of it

/** The [offset, length] pieces whose bytes follow the size into the hash, in order. */
export function sampledRanges(size) {
  if (size < WHOLE_BELOW_BYTES) return size ? [[0, size]] : [];
  // i * (size - 65536) stays below 2^53 for the largest object that S3 takes.
  const at = (i) => Math.floor((i * (size - SAMPLE_BYTES)) / (SAMPLE_COUNT + 1));
  const samples = Array.from({ length: SAMPLE_COUNT }, (_, i) => [at(i + 1), SAMPLE_BYTES]);
  return [[0, MIB], ...samples, [size - MIB, MIB]];
}

/**
 * The fingerprint of `size` bytes behind `read(offset, length)`; holds at most 2 MiB.
 * @param {(offset: number, length: number) => Promise<Uint8Array> | Uint8Array} read
 */
export async function fingerprintBy(size, read) {
  const head = new DataView(new ArrayBuffer(8));
  head.setUint32(0, Math.floor(size / 2 ** 32));
  head.setUint32(4, size % 2 ** 32);
  const whole = new Sha256().update(new Uint8Array(head.buffer));
  for (const [offset, length] of sampledRanges(size)) whole.update(await read(offset, length));
  return `v1:${hex(whole.digest())}`;
}

/** @param {Blob} body */
export function fingerprintOf(body) {
  return fingerprintBy(body.size, async (offset, length) => new Uint8Array(await body.slice(offset, offset + length).arrayBuffer()));
}
