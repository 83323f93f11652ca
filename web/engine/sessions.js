// The life of one file with a session of its own: found again or begun, sent, completed, followed to its verdict.

import { requestKey, signParts } from "./announcing.js";
import { segment } from "./api.js";
import { pauseSeconds, pollSeconds, retryAfterSeconds } from "./backoff.js";
import { composite, hexOf } from "./checksums.js";
import { ApiError, Cut, StoreError, UploadError } from "./errors.js";
import { alone } from "./locks.js";
import { SINGLE_PUT_MAX_BYTES, expand, joinable, memberId, partOf, tiled } from "./plan.js";
import { sendParts } from "./parts.js";
import { signedUrl } from "./sending.js";
import { clean } from "./sources.js";
import { inWords } from "./verdict.js";

const CANDIDATES_MAX = 5; // open sessions of one file that are worth a look
const MISSING_ROUNDS_MAX = 3;
const ASKS_MAX = 3;
const ASSEMBLING_S = 1; // between two looks when a 202 names no time
const LOOKS_MAX = 3; // browsers open six connections to a host, and others want to ask, too
const NOTE_EVERY_S = 1; // how far a file is, for a later visit
// The parts are gone from the store: only a new session helps (S3's code, and the API's).
const LOST_CODES = new Set(["NoSuchUpload", "upload_expired"]);
// Which member of a refused complete names the parts to send again.
const SEND_AGAIN = { parts_missing: "missing", part_mismatch: "parts" };
// The session still wants bytes; any other status means that they are all there, or no longer wanted.
const BYTES_WANTED = new Set(["created", "uploading"]);

/** Lets a few in at once; the others wait in order. */
class Gate {
  #free;
  #waiting = [];

  constructor(width) {
    this.#free = width;
  }

  async within(work) {
    if (this.#free) this.#free -= 1;
    else await new Promise((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free += 1;
    }
  }
}

/** The session wants no more bytes from us; what became of it is the answer. */
class MovedOn extends Error {}
/** The store has lost the parts. */
class Lost extends Error {}

export class Sessions {
  #looks = new Gate(LOOKS_MAX);
  #mine = new Set(); // sessions that this page works on: two files of the same bytes are two files

  /** `services`: {api, announcer, hasher, sender, board, clock, presence, locks, records, account(), follow} */
  constructor(services) {
    this.services = services;
  }

  /**
   * Until all bytes are there and joined. Rejects with the signal's reason when it is cut, else with UploadError.
   * What the server failed at is begun again there instead.
   */
  async send(task, signal) {
    if (task.failed_at_server) return this.#retryAtServer(task, signal);
    if (task.size <= SINGLE_PUT_MAX_BYTES && !task.batch) return this.#sendWhole(task, signal);
    return this.#sendParts(task, signal);
  }

  // one piece

  async #sendWhole(task, signal) {
    const { board, hasher, announcer } = this.services;
    if (!task.digest) {
      board.to(task, "preparing");
      task.digest = await hasher.sha256(task.blob, signal);
    }
    let put = null;
    if (!task.upload_id) {
      const { entry, asked_at } = await announcer.announce({ ...this.#entry(task), sha256: task.digest });
      board.note(task, { upload_id: entry.upload_id, file_id: entry.upload_id });
      const plan = tiled(task.size, entry.part_size, entry.part_count);
      signal.throwIfAborted();
      if (plan.part_count > 1) return this.#sendParts(task, signal, plan); // the server's limit for one PUT is another
      put = entry.put ? signedUrl(entry.put, asked_at) : null;
    }
    board.to(task, "uploading");
    try {
      await this.#putWhole(task, put, signal);
    } catch (error) {
      await this.#sorted(task, error, signal, () => this.#sendWhole(task, signal));
    }
  }

  async #putWhole(task, put, signal) {
    const { sender, hasher, api } = this.services;
    const part = { number: 1, offset: 0, size: task.size };
    const sign = async () => (await signParts(api, task.upload_id, [{ part, digest: task.digest }], signal)).get(1);
    const signed = put ?? (await sign());
    await new Promise((resolve, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      const job = {
        task,
        blob: task.blob,
        size: task.size,
        digest: task.digest,
        via: "put",
        signed,
        signal,
        sign,
        rehash: async () => (task.digest = await hasher.sha256(task.blob, signal)),
        stored: resolve,
        // The key is this upload's alone and the digest was signed: what lies there is our earlier try.
        ask: (answer) => this.#ask(task, answer, signal).catch((error) => {
          if (answer.status !== 412 || error instanceof MovedOn || error instanceof Lost) throw error;
          resolve();
        }),
        failed: reject,
      };
      sender.offer(job);
    });
  }

  // parts

  async #sendParts(task, signal, plan = null) {
    const { board, hasher, clock } = this.services;
    if (!task.transfer) board.to(task, "preparing");
    if (!task.fingerprint && !task.batch) task.fingerprint = await hasher.fingerprint(task.blob, signal);
    await this.#alone(task, signal, async () => {
      if (plan) task.transfer = { plan, digests: new Map() };
      try {
        if (!task.transfer) await this.#begin(task, signal);
        this.#mine.add(task.upload_id);
        await this.#fill(task, signal);
      } catch (error) {
        await this.#sorted(task, error, signal, async () => {
          await this.#begin(task, signal);
          await this.#fill(task, signal);
        });
      } finally {
        this.#mine.delete(task.upload_id);
      }
      await this.#forget(task.upload_id);
    });
    task.noted_at = clock.now();
  }

  /** Two tabs must not send the same file into one session at once. */
  async #alone(task, signal, work) {
    const { locks, board, account } = this.services;
    const name = `heavylift:${await account()}:${task.batch ? memberId(task.batch.batch_id, task.n) : task.fingerprint}`;
    const words = "The same file is being uploaded already, in another tab or further up in this one. This one waits for it.";
    await alone(locks, name, signal, (waits) => board.notice(task, waits ? words : null), work);
  }

  /** An open session of these bytes, or a new one. */
  async #begin(task, signal) {
    const { announcer, board } = this.services;
    const found = task.batch ? await this.#member(task, signal) : await this.#candidate(task, signal);
    if (found || task.transfer) return;
    task.announced = true;
    if (task.expected) throw new UploadError("no_session", "That upload is no longer open. Add the file anew.");
    const { entry } = await announcer.announce({ ...this.#entry(task), ...(task.batch ? {} : { fingerprint: task.fingerprint }) });
    board.note(task, { upload_id: entry.upload_id, file_id: entry.upload_id });
    task.transfer = { plan: tiled(task.size, entry.part_size, entry.part_count), digests: new Map() };
    await this.#remember(task);
    signal.throwIfAborted();
  }

  async #candidate(task, signal) {
    const { api } = this.services;
    const query = { fingerprint: task.fingerprint, status: "uploading", limit: CANDIDATES_MAX };
    const listed = (await api.call("GET", "/v1/uploads", { query, signal })).body?.items ?? [];
    const wanted = task.expected ? [{ upload_id: task.expected }] : listed.slice(0, CANDIDATES_MAX);
    for (const { upload_id } of wanted) {
      if (!upload_id || this.#mine.has(upload_id)) continue;
      const record = await this.#session(upload_id, "true", signal);
      const fit = joinable(record, task.size);
      if (!fit) continue;
      if (await this.#same(task, fit.received, signal)) {
        await this.#join(task, upload_id, fit);
        return true;
      }
      if (task.expected) throw wrongFile();
    }
    return false;
  }

  /** What an earlier page sent of a batch's large file: its id is known, so nothing has to be searched for. */
  async #member(task, signal) {
    const { board } = this.services;
    if (!task.batch.known && !task.announced) return false; // nobody has sent any of it
    const upload_id = memberId(task.batch.batch_id, task.n);
    const record = await this.#session(upload_id, "true", signal);
    if (!record || record.status === "created") return false;
    board.note(task, { upload_id, file_id: upload_id });
    if (record.status !== "uploading") throw new MovedOn();
    const fit = joinable(record, task.size);
    if (!fit || !(await this.#same(task, fit.received, signal))) throw wrongFile();
    await this.#join(task, upload_id, fit);
    return true;
  }

  async #session(upload_id, parts, signal) {
    try {
      return (await this.services.api.call("GET", `/v1/uploads/${segment(upload_id)}`, { query: { parts }, signal })).body;
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return null;
      throw error;
    }
  }

  /** Whether every received part is what the file holds there; each is shown as it is proven. */
  async #same(task, received, signal) {
    const { hasher, board } = this.services;
    if (received.length) board.notice(task, "What is there already is being compared with the file.");
    const queue = [...received];
    let same = true;
    const prove = async () => {
      for (let part = queue.shift(); part && same; part = queue.shift()) {
        const digest = await hasher.sha256(task.blob.slice(part.offset, part.offset + part.size), signal);
        if (digest === part.sha256) board.found(task, part.size);
        else same = false;
      }
    };
    await Promise.all(Array.from({ length: hasher.width }, prove));
    if (!same) board.restarted(task);
    board.notice(task, null);
    return same;
  }

  async #join(task, upload_id, { plan, received }) {
    this.services.board.note(task, { upload_id, file_id: upload_id });
    task.transfer = { plan, digests: new Map(received.map((part) => [part.number, part.sha256])) };
    await this.#remember(task);
  }

  async #fill(task, signal) {
    const { board, api } = this.services;
    const { plan, digests } = task.transfer;
    let numbers = Array.from({ length: plan.part_count }, (_, i) => i + 1).filter((number) => !digests.has(number));
    for (let round = 0; ; round += 1) {
      board.to(task, "uploading");
      const sign = (_, parts) => signParts(api, task.upload_id, parts, signal);
      const ask = (_, answer) => this.#ask(task, answer, signal);
      await sendParts(task, numbers, { ...this.services, sign, ask, onStored: (one) => this.#noteProgress(one) }, signal);
      numbers = await this.#complete(task, signal);
      if (!numbers.length) return;
      if (round >= MISSING_ROUNDS_MAX) throw new UploadError("parts_missing", "The store keeps losing parts of this file.", true);
      for (const number of numbers) {
        digests.delete(number);
        board.lost(task, partOf(plan, number).size);
      }
    }
  }

  /** Join the parts; the numbers of those that have to go again. */
  async #complete(task, signal) {
    const { api, board, clock } = this.services;
    const { plan, digests } = task.transfer;
    board.to(task, "assembling");
    const parts = [...digests].sort(([a], [b]) => a - b).map(([part_number, sha256]) => ({ part_number, sha256 }));
    for (;;) {
      let answer;
      try {
        answer = await api.call("POST", `/v1/uploads/${segment(task.upload_id)}/complete`, { body: { parts }, signal });
      } catch (error) {
        const named = error instanceof ApiError ? error.body?.[SEND_AGAIN[error.code]] : null;
        if (!named) throw error;
        const again = expand(named, plan.part_count);
        if (!again.length) throw error;
        return again;
      }
      if (answer.status !== 202) {
        compare(task, answer.body?.checksums);
        return [];
      }
      await clock.sleep(retryAfterSeconds(answer.headers.get("retry-after")) ?? ASSEMBLING_S, signal);
    }
  }

  // when it goes otherwise

  /** Let the API say what became of a session that was refused as gone, as finished or as there already. */
  async #ask(task, answer, signal) {
    const { clock, presence } = this.services;
    for (let attempt = 0; attempt < ASKS_MAX; attempt += 1) {
      const record = await this.#session(task.upload_id, "false", signal);
      if (!BYTES_WANTED.has(record?.status)) throw new MovedOn();
      if (answer.status === 412) break;
      await presence.pause(pauseSeconds(attempt, clock.random()), signal);
    }
    if (LOST_CODES.has(answer.code)) throw new Lost();
    if (answer instanceof Error) throw answer;
    throw new StoreError(answer.status, answer.code, inWords(answer));
  }

  /** An error of a session: over elsewhere, lost, or an error after all. `again` starts with a new session, once. */
  async #sorted(task, error, signal, again) {
    if (signal.aborted || error instanceof Cut) throw error;
    let reason = error;
    // Somebody else completed or cancelled this upload, or its time ran out.
    if (error instanceof ApiError && [409, 410].includes(error.status)) {
      reason = await this.#ask(task, error, signal).catch((found) => found);
    }
    if (reason instanceof MovedOn) return;
    if (reason instanceof Lost && !task.restarted && !task.batch) {
      task.restarted = true;
      await this.#forget(task.upload_id);
      this.services.board.restarted(task);
      this.services.board.note(task, { upload_id: null, file_id: null, notice: "The store has lost this upload; it starts again." });
      await again();
      return;
    }
    throw reason instanceof Lost ? error : (reason ?? error);
  }

  // the verdict

  /** Until the server has its verdict; rejects with UploadError where that is against the file. */
  async follow(task, signal) {
    const { api, board, clock } = this.services;
    board.to(task, "processing");
    for (let polls = 0; ; polls += 1) {
      const path = `/v1/files/${segment(task.upload_id)}`;
      const record = (await this.#looks.within(() => api.call("GET", path, { signal }))).body ?? {};
      board.note(task, { record });
      if (record.final) {
        if (record.checksums) compare(task, record.checksums);
        const { error, at_server } = verdictOf(record);
        task.failed_at_server = at_server;
        if (error) throw error;
        return;
      }
      await clock.sleep(pollSeconds(polls), signal);
    }
  }

  async #retryAtServer(task, signal) {
    const path = `/v1/uploads/${segment(task.upload_id)}/retry`;
    await this.services.api.call("POST", path, { body: {}, key: requestKey(), signal });
    task.failed_at_server = false;
  }

  // memory of a later visit

  #entry(task) {
    const { kind, type, data_type, description, metadata, rules } = task.declared;
    const said = task.batch
      ? { batch_id: task.batch.batch_id, n: task.n }
      : { kind, type, data_type, description, metadata, rules };
    const path = task.relative_path === null ? {} : { relative_path: clean(task.relative_path) };
    const given = Object.entries({ ...said, ...path }).filter(([, value]) => value !== undefined);
    return { name: clean(task.name), size: task.size, checksum: "sha256", ...Object.fromEntries(given) };
  }

  async #remember(task) {
    if (task.batch) return;
    const { records, account } = this.services;
    const { name, size, relative_path, fingerprint, handle, declared } = task;
    const bytes = task.stored;
    task.began_at ??= new Date().toISOString();
    task.noted_at = this.services.clock.now();
    const about = { name, size, relative_path, fingerprint, handle, declared: plain(declared), bytes, began_at: task.began_at };
    await records.put({ id: task.upload_id, account: await account(), kind: "file", ...about });
  }

  #noteProgress(task) {
    if (this.services.clock.now() - (task.noted_at ?? 0) >= NOTE_EVERY_S) this.#remember(task);
  }

  #forget(upload_id) {
    return this.services.records.delete(upload_id);
  }
}

const wrongFile = () =>
  new UploadError("wrong_file", "This is another file than the one of which parts were uploaded before: their bytes differ.");

/** What a storage can keep of what was declared: what JSON can say. */
export const plain = (declared) => JSON.parse(JSON.stringify(declared ?? {}));

/** What a final record means: the error to show, and whether the server can try again by itself. */
export function verdictOf(record) {
  const status = record.verdict ?? record.status;
  if (["completed", "completed_with_errors", "duplicate", "skipped", "expanded"].includes(status)) return { error: null, at_server: false };
  const failure = record.failure ?? record;
  const at_server = status === "failed" && failure.retryable !== false;
  const words = failure.message ?? `The upload is ${status}.`;
  // An upload whose time ran out can only begin anew; what the file is at fault for stays so.
  return { error: new UploadError(failure.code ?? status ?? "failed", words, at_server || status === "expired"), at_server };
}

/** The finished object's checksums with those of the bytes that were read here. Throws UploadError. */
function compare(task, sums) {
  const { transfer, digest } = task;
  const differs = () => new UploadError("checksum_mismatch", "The stored object has other bytes than this file.", true);
  if (transfer?.digests.size === transfer?.plan.part_count && typeof sums?.sha256_composite === "string" && transfer) {
    const digests = Array.from({ length: transfer.plan.part_count }, (_, i) => transfer.digests.get(i + 1));
    if (sums.sha256_composite !== composite(digests)) throw differs();
  }
  if (digest && !transfer && sums?.sha256_proven && typeof sums.sha256 === "string") {
    if (sums.sha256.toLowerCase() !== hexOf(digest)) throw differs();
  }
}

