// Digests and fingerprints by a few workers; where no worker can be started, on the page's own thread in small steps.

import { base64 } from "./checksums.js";
import { UploadError, unreadable } from "./errors.js";
import { fingerprintOf } from "./fingerprint.js";
import { Sha256 } from "./sha256.js";

const WORKERS_MAX = 4;
const WORKERS_MIN = 2; // one reads while the other hashes
const GIVEN_AHEAD = 3; // tasks in a worker's hands, so that it never waits for the page
const INLINE_SLICE_BYTES = 256 * 1024; // two milliseconds of plain JavaScript

const width = () => Math.min(WORKERS_MAX, Math.max(WORKERS_MIN, Math.floor((globalThis.navigator?.hardwareConcurrency ?? 4) / 2)));

/** @param {URL | string} base where hash_worker.js is @returns {import("./index.d.ts").Hasher} */
export function workerHasher(base) {
  const queue = [];
  const tasks = new Map();
  let workers = null;
  let fallback = null;
  let last = 0;

  function start() {
    workers = [];
    try {
      for (let i = 0; i < width(); i += 1) {
        const worker = new Worker(new URL("hash_worker.js", base), { type: "module", name: "heavylift-hash" });
        const one = { worker, held: new Set() };
        worker.onmessage = ({ data }) => answered(one, data);
        worker.onerror = (event) => {
          event.preventDefault?.();
          lost(one);
        };
        workers.push(one);
      }
    } catch {
      workers = []; // a policy of the page forbids workers
    }
  }

  function answered(one, { id, value, error }) {
    if (id === undefined) return; // it says that it is ready
    const task = tasks.get(id);
    tasks.delete(id);
    one.held.delete(task);
    task?.settle(value, error);
    pump();
  }

  /** A worker that does not load or has died: its tasks go to the others, or are done here. */
  function lost(one) {
    one.worker.terminate();
    workers = workers.filter((other) => other !== one);
    for (const task of one.held) {
      tasks.delete(task.id);
      queue.unshift(task);
    }
    pump();
  }

  function pump() {
    if (!workers) start();
    if (!workers.length) {
      fallback ??= inlineHasher();
      for (const task of queue.splice(0)) {
        fallback[task.op](task.body, task.signal).then((value) => task.settle(value), (error) => task.settle(null, error));
      }
      return;
    }
    while (queue.length) {
      const one = workers.reduce((a, b) => (b.held.size < a.held.size ? b : a));
      if (one.held.size >= GIVEN_AHEAD) return;
      const task = queue.shift();
      one.held.add(task);
      task.holder = one;
      tasks.set(task.id, task);
      one.worker.postMessage({ id: task.id, op: task.op, body: task.body });
    }
  }

  function ask(op, body, signal) {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const task = { id: (last += 1), op, body, signal };
      const cut = () => {
        const at = queue.indexOf(task);
        if (at >= 0) queue.splice(at, 1);
        else task.holder?.worker.postMessage({ cancel: task.id });
        reject(signal.reason);
      };
      task.settle = (value, error) => {
        signal?.removeEventListener("abort", cut);
        if (error) reject(error instanceof UploadError ? error : unreadable(error));
        else resolve(value);
      };
      signal?.addEventListener("abort", cut, { once: true });
      queue.push(task);
      pump();
    });
  }

  return {
    width: width(),
    sha256: (body, signal) => ask("sha256", body, signal),
    fingerprint: (body, signal) => ask("fingerprint", body, signal),
    close() {
      for (const { worker } of workers ?? []) worker.terminate();
      workers = null;
      queue.length = 0;
      tasks.clear();
    },
  };
}

/** The same without workers, in steps that leave the page its turn. @returns {import("./index.d.ts").Hasher} */
export function inlineHasher() {
  return {
    width: 1,
    async sha256(body, signal) {
      const hash = new Sha256();
      for (let at = 0; at < body.size; at += INLINE_SLICE_BYTES) {
        signal?.throwIfAborted();
        try {
          hash.update(new Uint8Array(await body.slice(at, at + INLINE_SLICE_BYTES).arrayBuffer()));
        } catch (error) {
          throw unreadable(error);
        }
      }
      return base64(hash.digest());
    },
    async fingerprint(body, signal) {
      signal?.throwIfAborted();
      try {
        return await fingerprintOf(body);
      } catch (error) {
        throw unreadable(error);
      }
    },
    close() {},
  };
}
