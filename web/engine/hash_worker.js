// Hashes files off the page's thread. A file never lies in memory: slices of 4 MiB are read, hashed and dropped.
//
// {id, op: "sha256" | "fingerprint", body} -> {id, value} or {id, error: {name, message}};  {cancel: id} ends one early.

import "../vendor/hash-wasm/sha256.umd.min.js"; // sets globalThis.hashwasm
import { base64 } from "./checksums.js";
import { fingerprintOf } from "./fingerprint.js";
import { Sha256 } from "./sha256.js";

const SLICE_BYTES = 4 * 1024 * 1024;

// Where the policy of this worker's own response does not allow WebAssembly, plain JavaScript does the same, slower.
// It is not waited for here: what the page sends before a module has come to its end would be lost.
const compiling = globalThis.hashwasm.createSHA256().catch(() => null);
const cancelled = new Set();
let turn = Promise.resolve();

/** One at a time: the compiled code has one state. */
function serially(work) {
  const done = turn.then(work);
  turn = done.catch(() => {});
  return done;
}

const sha256 = (body, id) => (body.size <= SLICE_BYTES && globalThis.crypto?.subtle ? whole(body) : serially(() => sliced(body, id)));

async function whole(body) {
  return base64(new Uint8Array(await crypto.subtle.digest("SHA-256", await body.arrayBuffer())));
}

async function sliced(body, id) {
  const compiled = await compiling;
  const hash = compiled ? compiled.init() : new Sha256();
  const slice = (at) => (at < body.size ? body.slice(at, at + SLICE_BYTES).arrayBuffer() : null);
  let next = slice(0);
  for (let at = 0; at < body.size; at += SLICE_BYTES) {
    const data = await next;
    next = slice(at + SLICE_BYTES); // is read while this one is hashed
    next?.catch(() => {}); // it is awaited in the next turn, or nobody wants it any more
    if (cancelled.has(id)) throw new DOMException("cancelled", "AbortError");
    hash.update(new Uint8Array(data));
  }
  return base64(compiled ? hash.digest("binary") : hash.digest());
}

onmessage = async ({ data: { id, op, body, cancel } }) => {
  if (cancel !== undefined) {
    cancelled.add(cancel);
    return;
  }
  try {
    const value = op === "fingerprint" ? await fingerprintOf(body) : await sha256(body, id);
    postMessage({ id, value });
  } catch (error) {
    postMessage({ id, error: { name: error?.name ?? "Error", message: String(error?.message ?? error) } });
  }
  cancelled.delete(id);
};
compiling.then((compiled) => postMessage({ ready: true, compiled: compiled !== null }));
