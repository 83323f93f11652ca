// Opens upload sessions, up to 200 files a call. Files that are ready while a call is under way share the next one.

import { segment } from "./api.js";
import { AnswerError, ApiError, UploadError } from "./errors.js";
import { INITIATE_FILES_MAX, INITIATE_MAX_BYTES, halves, windowSize } from "./plan.js";
import { signedUrl } from "./sending.js";

const COMPANY_MS = 10; // so long the first file of a call waits for others

/** Text that no two requests share; crypto.randomUUID is for secure pages only. */
export function requestKey() {
  const words = crypto.getRandomValues(new Uint32Array(4));
  return Array.from(words, (word) => word.toString(16).padStart(8, "0")).join("-");
}

export class Announcer {
  #api;
  #clock;
  #max_part_size;
  #queue = [];
  #timer = null;
  #busy = false;
  #lives_s = null;
  #answered = 0;
  #began_at = null;

  constructor({ api, clock, max_part_size }) {
    this.#api = api;
    this.#clock = clock;
    this.#max_part_size = max_part_size;
  }

  /**
   * A session for a file: {entry, asked_at}, the API's words about it. It is not given up when its file is: a session that
   * exists has to be known to be ended. Rejects with UploadError where the API will not take the file.
   */
  announce(file) {
    return new Promise((resolve, reject) => {
      this.#queue.push({ file, resolve, reject });
      if (this.#queue.length >= INITIATE_FILES_MAX) this.#flush();
      else this.#timer ??= setTimeout(() => this.#flush(), COMPANY_MS);
    });
  }

  #flush() {
    clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#busy || !this.#queue.length) return;
    const group = this.#group();
    this.#busy = true;
    this.#begin_at();
    this.#initiate(group).finally(() => {
      this.#busy = false;
      this.#flush();
    });
  }

  #begin_at() {
    this.#began_at ??= this.#clock.now();
  }

  /** As many as one call takes, and as their URLs will live to be used. */
  #group() {
    const rate = this.#answered / Math.max(0.001, this.#clock.now() - this.#began_at);
    const most = windowSize(this.#answered ? rate : 0, this.#lives_s, 8, INITIATE_FILES_MAX);
    let count = 0;
    for (let bytes = 0; count < Math.min(most, this.#queue.length) && (count === 0 || bytes < INITIATE_MAX_BYTES); count += 1) {
      bytes += this.#queue[count].file.sha256 ? this.#queue[count].file.size : 0;
    }
    return this.#queue.splice(0, count);
  }

  async #initiate(group) {
    const files = group.map(({ file }, i) => ({ ...file, client_id: String(i) }));
    const body = { files, ...(this.#max_part_size ? { max_part_size: this.#max_part_size } : {}) };
    let answer;
    try {
      answer = await this.#api.call("POST", "/v1/uploads", { body, key: requestKey() });
    } catch (error) {
      // One entry that breaks the schema spoils the call for all: find it.
      if (error instanceof ApiError && [400, 413, 422].includes(error.status) && group.length > 1) {
        for (const half of halves(group)) await this.#initiate(half);
      } else {
        for (const one of group) one.reject(error);
      }
      return;
    }
    const entries = new Map((answer.body?.uploads ?? []).map((entry) => [entry.client_id, entry]));
    this.#answered += group.length;
    group.forEach((one, i) => {
      const entry = entries.get(String(i));
      if (entry?.put) this.#lives_s = signedUrl(entry.put, answer.asked_at).lives_s;
      if (!entry) one.reject(new AnswerError("The API said nothing about this file."));
      else if (entry.problem) one.reject(refusal(entry.problem));
      else if (!entry.upload_id) one.reject(new AnswerError("The API gave no upload_id."));
      else one.resolve({ entry, asked_at: answer.asked_at });
    });
  }
}

/** What the API has against a file, as our error. */
export function refusal(problem) {
  const words = problem.detail ?? problem.title ?? problem.message ?? "The API gave no reason.";
  return new UploadError(String(problem.code ?? "refused"), String(words), Boolean(problem.retryable));
}

/** URLs for parts [{part, digest}] of an upload: Map(number -> signed). */
export async function signParts(api, upload_id, parts, signal) {
  const body = { parts: parts.map(({ part, digest }) => ({ part_number: part.number, sha256: digest, size: part.size })) };
  const answer = await api.call("POST", `/v1/uploads/${segment(upload_id)}/parts`, { body, signal });
  const urls = new Map((answer.body?.parts ?? []).map((one) => [one.part_number, signedUrl(one, answer.asked_at)]));
  if (parts.some(({ part }) => !urls.has(part.number))) throw new AnswerError("The API did not sign every part.");
  return urls;
}
