// Sends what is signed: one pool of requests over all files and parts, and what to do when S3 does not take one.
//
//     ready -> on the wire -> stored
//       ^          |
//       +-- renew <+   a URL that grew old, or that S3 refuses; a pause where the world is at fault
//
// A job is {task, blob, size, digest, via: "put" | "form", signed: {url, headers | fields, stale_at}, signal} and calls back:
// sign() -> signed, rehash() -> digest, taken(), stored(), ask(answer), failed(error).

import { pauseSeconds, retryAfterSeconds } from "./backoff.js";
import { NetworkError, StoreError, unreadable } from "./errors.js";
import { Act, NO_TRIES, asksForLess, inWords, judge, readAnswer, totalOf, triesAfter } from "./verdict.js";

const STALE_MAX = 3; // a URL that is old on arrival is used nevertheless

export class Sender {
  #ready = [];
  #transport;
  #pace;
  #clock;
  #presence;
  #patience_s;
  #board;

  constructor({ transport, pace, clock, presence, patience_s, board }) {
    this.#transport = transport;
    this.#pace = pace;
    this.#clock = clock;
    this.#presence = presence;
    this.#patience_s = patience_s;
    this.#board = board;
  }

  get limit() {
    return this.#pace.limit;
  }

  /** Nothing but small requests will come. */
  forSmall() {
    this.#pace.forSmall();
  }

  /** Jobs with a URL that nobody sends yet. */
  get waiting() {
    return this.#ready.length;
  }

  /** @param {boolean} first before those that were never tried */
  offer(job, first = false) {
    if (first) this.#ready.unshift(job);
    else this.#ready.push(job);
    this.pump();
  }

  pump() {
    while (this.#ready.length) {
      const [job] = this.#ready;
      if (job.signal.aborted) {
        this.#ready.shift();
      } else if (this.#isStale(job) && (job.stale ?? 0) < STALE_MAX) {
        this.#ready.shift();
        job.stale = (job.stale ?? 0) + 1;
        this.#guarded(job, async () => {
          job.signed = await job.sign();
          this.offer(job, true);
        });
      } else if (this.#pace.tryEnter()) {
        this.#ready.shift();
        job.taken?.();
        this.#guarded(job, () => this.#attempt(job));
      } else {
        return;
      }
    }
  }

  #isStale(job) {
    return job.signed.stale_at !== null && this.#clock.now() >= job.signed.stale_at;
  }

  /** Whatever goes wrong with a job is the job's. */
  #guarded(job, work) {
    work().catch((error) => {
      if (!job.signal.aborted) job.failed(error);
    });
  }

  async #attempt(job) {
    const answer = await this.#once(job);
    this.pump();
    if (job.signal.aborted) return;
    const tries = job.tries ?? NO_TRIES;
    job.failing ??= this.#presence.patience(this.#patience_s);
    const act = judge(answer, tries, job.failing.failing_s, this.#patience_s);
    job.tries = triesAfter(tries, act, answer);
    if (act === Act.STORED) job.stored();
    else if (act === Act.ASK) await job.ask(answer);
    else if (act === Act.FAIL) throw new StoreError(answer.status, answer.code || "network", inWords(answer));
    else await this.#again(job, act, answer);
  }

  /** One try, with a place on the wire that is given back here. */
  async #once(job) {
    const { task, blob, size, signed, signal } = job;
    let flown = 0;
    const onProgress = (bytes) => {
      if (signal.aborted) return;
      this.#board.moved(task, bytes - flown);
      flown = bytes;
    };
    let answer = { status: null, code: "", message: "", retry_after: null };
    try {
      const reply =
        job.via === "form"
          ? await this.#transport.post(signed.url, { ...signed.fields, ...job.fields }, blob, signal, onProgress)
          : await this.#transport.put(signed.url, signed.headers, blob, signal, onProgress);
      this.#presence.reached();
      answer = readAnswer(reply.status, reply.text, reply.headers.get("retry-after"));
      const echoed = answer.code ? null : reply.headers.get("x-amz-checksum-sha256");
      if (echoed && echoed !== job.digest) answer = { ...answer, status: 400, code: "BadDigest", message: "The store stored other bytes." };
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error;
      answer.message = error.message;
      await readable(blob); // a file that changed fails without an answer, too
      if (!signal.aborted) this.#presence.missed();
    } finally {
      const well = answer.status >= 200 && answer.status < 300;
      this.#pace.leave(well ? size : flown, asksForLess(answer));
      if (well && !signal.aborted) this.#board.arrived(task, size, flown);
      else this.#board.moved(task, -flown);
    }
    return answer;
  }

  async #again(job, act, answer) {
    // The first new signature is asked for at once: an old URL says nothing about load.
    if (act !== Act.SIGN_AGAIN || job.tries.sign_again > 1) {
      const wanted_s = retryAfterSeconds(answer.retry_after);
      await this.#presence.pause(pauseSeconds(totalOf(job.tries) - 1, this.#clock.random(), wanted_s), job.signal);
    }
    if (act === Act.HASH_AGAIN) job.digest = await job.rehash();
    // A cut connection can hide any refusal, so the second one is answered with a new URL.
    const hidden = answer.status === null && job.tries.back_off > 1;
    if (act !== Act.BACK_OFF || hidden || this.#isStale(job)) job.signed = await job.sign(act === Act.SIGN_AGAIN);
    if (!job.signal.aborted) this.offer(job, true);
  }
}

/** Rejects with UploadError when the file cannot be read any more. */
async function readable(blob) {
  try {
    await blob.slice(0, 1).arrayBuffer();
  } catch (error) {
    throw unreadable(error);
  }
}

/** A signed request as the API states it. Its life is the one that its own query names, so that no clock is compared. */
export function signedUrl({ url, headers }, asked_at) {
  const lives_s = Number(new URL(url).searchParams.get("X-Amz-Expires")) || null;
  return { url, headers: headers ?? {}, lives_s, stale_at: staleAt(asked_at, lives_s) };
}

/** A form as the API states it; its life is from the moment that it was signed for to its end. */
export function signedForm({ url, fields, expires_at }, asked_at) {
  const [, y, m, d, h, min, s] = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(fields["x-amz-date"] ?? "") ?? [];
  const lives_s = y ? (Date.parse(expires_at) - Date.UTC(y, m - 1, d, h, min, s)) / 1000 : null;
  return { url, fields, lives_s, stale_at: staleAt(asked_at, lives_s || null) };
}

/** A fifth of its life, at most 5 s, is left for the way. */
const staleAt = (asked_at, lives_s) => (lives_s === null ? null : asked_at + lives_s - Math.min(5, 0.2 * lives_s));
