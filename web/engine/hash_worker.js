// Hashes files off the page's thread. A file never lies in memory: it is read into one buffer of 1 MiB, again and again.
//
// {id, op: "sha256" | "fingerprint", body} -> {id, value} or {id, error: {name, message}};  {cancel: id} ends one early.

import "../vendor/hash-wasm/sha256.umd.min.js"; // sets globalThis.hashwasm
import { base64 } from "./checksums.js";
import { fingerprintOf } from "./fingerprint.js";
import { Sha256 } from "./sha256.js";

const BUFFER_BYTES = 1024 * 1024;
const SLICE_BYTES = 4 * 1024 * 1024;

// Where the policy of this worker's own response does not allow WebAssembly, plain JavaScript does the same, slower.
// It is not waited for here: what the page sends before a module has come to its end would be lost.
const compiling = globalThis.hashwasm.createSHA256().catch(() => null);
const cancelled = new Set();
let spare = new ArrayBuffer(BUFFER_BYTES); // handed to the reader and back
let turn = Promise.resolve();

/** One at a time: the compiled code has one state, and there is one buffer. */
function serially(work) {
  const done = turn.then(work);
  turn = done.catch(() => {});
  return done;
}

/**
 * The bytes, piece by piece; each is only good until the next. A reader that is given its buffer leaves nothing behind:
 * with arrayBuffer() of slices Chromium's collector let hundreds of megabytes wait, at a third of the speed.
 */
async function* pieces(body) {
  const reader = byteReader(body);
  if (!reader) {
    for (let at = 0; at < body.size; at += SLICE_BYTES) {
      yield new Uint8Array(await body.slice(at, at + SLICE_BYTES).arrayBuffer());
    }
    return;
  }
  let read = 0;
  try {
    for (;;) {
      const { value, done } = await reader.read(new Uint8Array(spare));
      spare = value?.buffer ?? spare;
      if (done) break;
      read += value.length;
      yield value;
    }
  } finally {
    if (!spare.byteLength) spare = new ArrayBuffer(BUFFER_BYTES); // a read that failed has kept it
    reader.cancel().catch(() => {});
  }
  if (read !== body.size) throw new DOMException("The file is shorter than it was.", "NotReadableError");
}

/** A reader that fills a buffer of ours; null where the browser's files have none. */
function byteReader(body) {
  try {
    return body.stream().getReader({ mode: "byob" });
  } catch {
    return null;
  }
}

async function sha256(body, id) {
  const compiled = await compiling;
  const hash = compiled ? compiled.init() : new Sha256();
  for await (const data of pieces(body)) {
    if (cancelled.has(id)) throw new DOMException("cancelled", "AbortError");
    hash.update(data);
  }
  return base64(compiled ? hash.digest("binary") : hash.digest());
}

onmessage = async ({ data: { id, op, body, cancel } }) => {
  if (cancel !== undefined) {
    cancelled.add(cancel);
    return;
  }
  try {
    const value = op === "fingerprint" ? await fingerprintOf(body) : await serially(() => sha256(body, id));
    postMessage({ id, value });
  } catch (error) {
    postMessage({ id, error: { name: error?.name ?? "Error", message: String(error?.message ?? error) } });
  }
  cancelled.delete(id);
};
compiling.then((compiled) => postMessage({ ready: true, compiled: compiled !== null }));
