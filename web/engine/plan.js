// Which bytes are which part, what is still to send, how far ahead to work. No I/O here.
// The Python client's plan.py decides the same; tests/vectors hold both to it.

import { AnswerError, UploadError } from "./errors.js";

export const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
/** Up to here the server plans a single PUT, whose digest goes with the first request; the server's answer decides. */
export const SINGLE_PUT_MAX_BYTES = 16 * MIB;
export const PART_SIZE_MIN_BYTES = 5 * MIB; // S3's, for all parts but the last
const PART_SIZE_MAX_BYTES = 5 * GIB; // S3's
const PART_COUNT_MAX = 10_000; // S3: part numbers 1..10 000
const PART_COUNT_PLANNED_MAX = 9_000; // a tenth is left for sizes that grow
const OBJECT_MAX_BYTES = PART_COUNT_MAX * PART_SIZE_MAX_BYTES;
export const INITIATE_FILES_MAX = 200; // the API's limits
export const SIGN_PARTS_MAX = 1_000;
export const MANIFEST_ENTRIES_MAX = 5_000;
export const BATCH_FILES_MAX = 100_000;
const MANIFEST_BODY_MAX_CHARS = 2_000_000; // Lambda takes 6 MB, and a character may be three bytes
/** Of files that are hashed before they are announced: a call must not wait long for the digests of its files. */
export const INITIATE_MAX_BYTES = 256 * MIB;
const AHEAD_BYTES = 256 * MIB;
const AHEAD_PARTS_MAX = 64;
const TTL_SHARE = 0.4; // of a URL's life should suffice for a window

const roundUp = (value, step) => Math.ceil(value / step) * step;

/** How the server will cut a file: {mode, part_size, part_count}. Throws UploadError `size_not_allowed`. */
export function planOf(size, max_part_size) {
  if (!Number.isSafeInteger(size) || size < 0 || size > OBJECT_MAX_BYTES) {
    throw new UploadError("size_not_allowed", `A file may have 0 to ${OBJECT_MAX_BYTES} bytes, this one has ${size}.`);
  }
  const asked = max_part_size == null ? Infinity : Math.max(max_part_size, PART_SIZE_MIN_BYTES);
  if (size <= SINGLE_PUT_MAX_BYTES && size <= asked) return { mode: "single", part_size: Math.max(size, 1), part_count: 1 };
  let part_size = Math.min(asked, size < GIB ? 16 * MIB : size < 64 * GIB ? 64 * MIB : 128 * MIB);
  part_size = Math.max(part_size, roundUp(Math.ceil(size / PART_COUNT_PLANNED_MAX), MIB));
  if (part_size > PART_SIZE_MAX_BYTES) part_size = roundUp(Math.ceil(size / PART_COUNT_MAX), MIB);
  return { mode: "multipart", part_size, part_count: Math.ceil(size / part_size) };
}

/** The plan that a server's answer describes, {size, part_size, part_count}. Throws AnswerError if it does not tile. */
export function tiled(size, part_size, part_count) {
  if (size === 0 || !part_size || (part_count === 1 && part_size >= size)) {
    if (![null, undefined, 0, 1].includes(part_count)) throw new AnswerError(`${part_count} parts for ${size} bytes`);
    return { size, part_size: Math.max(size, 1), part_count: 1 };
  }
  const wanted = Math.ceil(size / part_size);
  if (!(part_size > 0) || wanted > PART_COUNT_MAX || (part_count != null && part_count !== wanted)) {
    throw new AnswerError(`${part_count} parts of ${part_size} bytes do not make ${size} bytes`);
  }
  return { size, part_size, part_count: wanted };
}

/** Part `number` (from 1) of a plan: {number, offset, size}. Throws AnswerError for a number that is none. */
export function partOf(plan, number) {
  if (!Number.isInteger(number) || number < 1 || number > plan.part_count) {
    throw new AnswerError(`part ${number} is not one of ${plan.part_count}`);
  }
  const offset = (number - 1) * plan.part_size;
  return { number, offset, size: Math.min(plan.part_size, plan.size - offset) };
}

/** Part numbers of [[1, 57], [60, 60]], in order and once each. Throws AnswerError for anything else. */
export function expand(ranges, part_count) {
  if (!Array.isArray(ranges)) throw new AnswerError("ranges of parts are not a list");
  const numbers = new Set();
  for (const pair of ranges) {
    const sound = Array.isArray(pair) && pair.length === 2 && pair.every(Number.isInteger);
    if (!sound || pair[0] < 1 || pair[1] < pair[0] || pair[1] > part_count) {
      throw new AnswerError(`a range of parts does not lie in 1..${part_count}`);
    }
    for (let number = pair[0]; number <= pair[1]; number += 1) numbers.add(number);
  }
  return [...numbers].sort((a, b) => a - b);
}

/**
 * The plan of an open session and what it has received; null if a file of `size` bytes cannot go on with it.
 * `record` is `GET /v1/uploads/{id}?parts=true`. Whether the digests are those of the file is for the caller to find
 * out, before a single part is skipped.
 * @returns {{plan: object, received: {number: number, offset: number, size: number, sha256: string}[]} | null}
 */
export function joinable(record, size) {
  if (record?.status !== "uploading" || record.mode !== "multipart" || record.size !== size) return null;
  try {
    const plan = tiled(size, record.part_size, record.part_count);
    const received = [];
    for (const { part_number, size: part_size, sha256 } of record.parts ?? []) {
      const part = partOf(plan, part_number);
      if (part_size !== part.size || typeof sha256 !== "string" || !sha256) return null;
      received.push({ ...part, sha256 });
    }
    const listed = new Set(received.map((part) => part.number));
    // Received parts of which nothing is known cannot be proven the same.
    return expand(record.received ?? [], plan.part_count).every((number) => listed.has(number)) ? { plan, received } : null;
  } catch (error) {
    if (error instanceof AnswerError || error instanceof TypeError) return null;
    throw error;
  }
}

/**
 * How many parts may be hashed or signed but not stored yet: enough to sign in batches and never let a connection wait;
 * few enough that the bytes are still in the machine's file cache when they are read for the second time.
 */
export function partsAhead(part_size, concurrency) {
  return Math.max(2 * concurrency, Math.min(AHEAD_PARTS_MAX, Math.floor(AHEAD_BYTES / Math.max(1, part_size))));
}

/** For how many items URLs are worth having at once: what goes out within a part of a URL's life. */
export function windowSize(items_per_s, lives_s, concurrency, most) {
  if (lives_s == null || !(items_per_s > 0)) return most;
  return Math.max(concurrency, Math.min(most, Math.floor(items_per_s * lives_s * TTL_SHARE)));
}

/** Pages of a manifest: lists of entries that the API takes in one call. @param {Iterable<object>} entries */
export function* pagesOf(entries) {
  let page = [];
  let chars = 0;
  for (const entry of entries) {
    const own = 100 + 2 * (entry.name.length + (entry.relative_path?.length ?? 0));
    if (page.length === MANIFEST_ENTRIES_MAX || (page.length && chars + own > MANIFEST_BODY_MAX_CHARS)) {
      yield page;
      page = [];
      chars = 0;
    }
    page.push(entry);
    chars += own;
  }
  if (page.length) yield page;
}

/** The id of a batch's file. */
export const memberId = (batch_id, n) => `${batch_id}-${String(n).padStart(6, "0")}`;

/** Two halves, the first never empty: how one entry that spoils a whole call is found. */
export function halves(items) {
  const middle = Math.ceil(items.length / 2);
  return [items.slice(0, middle), items.slice(middle)];
}
