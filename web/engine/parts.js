// The parts of one file: hashed a bounded number ahead, signed in batches, sent by the common pool.

import { Cut } from "./errors.js";
import { SIGN_PARTS_MAX, partOf, partsAhead, windowSize } from "./plan.js";

/**
 * Sends the parts `numbers` of a task and resolves when all are stored. `task.transfer` is {plan, digests: Map(number ->
 * base64)}; a part with a digest that is not among `numbers` is in the store.
 * `services`: {hasher, sender, board, clock, sign(task, parts) -> Map(number -> signed), ask(task, answer)}
 */
export function sendParts(task, numbers, services, signal) {
  return new Promise((resolve, reject) => new PartsRun(task, numbers, services, signal, resolve, reject).begin());
}

class PartsRun {
  #todo;
  #toSign = [];
  #hashing = 0;
  #ahead = 0;
  #ready = 0;
  #signing = false;
  #unsent;
  #stored = 0;
  #lives_s = null;
  #began_at;

  constructor(task, numbers, services, signal, resolve, reject) {
    Object.assign(this, { task, services, resolve });
    this.#todo = [...numbers];
    this.#unsent = numbers.length;
    this.#began_at = services.clock.now();
    // One part that fails for good ends the others.
    const own = new AbortController();
    this.signal = AbortSignal.any([signal, own.signal]);
    this.fail = (error) => {
      own.abort(new Cut("failed"));
      reject(error);
    };
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  }

  begin() {
    if (this.signal.aborted) return;
    if (this.#unsent) this.#pump();
    else this.resolve();
  }

  #pump() {
    const { hasher, sender } = this.services;
    const { plan } = this.task.transfer;
    while (this.#todo.length && this.#hashing < hasher.width && this.#ahead < partsAhead(plan.part_size, sender.limit)) {
      this.#hash(partOf(plan, this.#todo.shift()));
    }
    // Waiting until the senders run low is what makes batches, and keeps URLs young.
    if (this.#toSign.length && !this.#signing && this.#ready < Math.ceil(sender.limit / 2)) this.#sign();
  }

  #blob({ offset, size }) {
    return this.task.blob.slice(offset, offset + size);
  }

  #guarded(work) {
    work().catch((error) => {
      if (!this.signal.aborted) this.fail(error);
    });
  }

  #hash(part) {
    this.#ahead += 1;
    this.#hashing += 1;
    this.#guarded(async () => {
      const digest = await this.services.hasher.sha256(this.#blob(part), this.signal).finally(() => {
        this.#hashing -= 1;
      });
      this.#toSign.push({ part, digest });
      this.#pump();
    });
  }

  #sign() {
    this.#signing = true;
    const rate = this.#stored / Math.max(0.001, this.services.clock.now() - this.#began_at);
    const chosen = this.#toSign.splice(0, windowSize(rate, this.#lives_s, this.services.sender.limit, SIGN_PARTS_MAX));
    this.#guarded(async () => {
      const urls = await this.services.sign(this.task, chosen, this.signal).finally(() => {
        this.#signing = false;
      });
      this.#ready += chosen.length;
      for (const { part, digest } of chosen) {
        const signed = urls.get(part.number);
        this.#lives_s = signed.lives_s;
        this.services.sender.offer(this.#job(part, digest, signed));
      }
      this.#pump();
    });
  }

  #job(part, digest, signed) {
    const { task, services, signal } = this;
    const blob = this.#blob(part);
    let counted = false;
    const job = {
      task,
      blob,
      size: part.size,
      digest,
      via: "put",
      signed,
      signal,
      sign: async () => (await services.sign(task, [{ part, digest: job.digest }], signal)).get(part.number),
      rehash: () => services.hasher.sha256(blob, signal),
      taken: () => {
        if (!counted) this.#ready -= 1;
        counted = true;
        this.#pump();
      },
      stored: () => {
        task.transfer.digests.set(part.number, job.digest);
        services.onStored?.(task);
        this.#ahead -= 1;
        this.#stored += 1;
        this.#unsent -= 1;
        if (this.#unsent) this.#pump();
        else this.resolve();
      },
      ask: (answer) => services.ask(task, answer, signal),
      failed: (error) => this.fail(error),
    };
    return job;
  }
}
