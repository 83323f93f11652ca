// The life of a batch: begun, listed, its files sent by one form each (the large ones as sessions), completed, followed.

import { requestKey } from "./announcing.js";
import { segment } from "./api.js";
import { pollSeconds } from "./backoff.js";
import { breather } from "./breath.js";
import { fromBase64, hexOf } from "./checksums.js";
import { ApiError, Cut, StoreError, UploadError } from "./errors.js";
import { BATCH_FILES_MAX, MIB, SINGLE_PUT_MAX_BYTES, memberId, pagesOf } from "./plan.js";
import { alone } from "./locks.js";
import { signedForm } from "./sending.js";
import { plain, verdictOf } from "./sessions.js";
import { clean } from "./sources.js";

const AHEAD_FILES = 96; // hashed but not stored: enough that no connection waits ...
const AHEAD_BYTES = 64 * MIB; // ... and little enough to be in the machine's file cache when it is read again
const HASHES_AT_ONCE = 3; // per worker: one is read while another is hashed
const LARGE_AT_ONCE = 2;
const WAIT_S = 20; // of one GET ?wait=: the API allows 25, the gateway 30
const FILES_PAGE = 100; // the API's limit
const NOTE_FILES = 200; // a note for a later visit is written after so many files ...
const NOTE_EVERY_S = 2; // ... or so many seconds
const ENTRIES_A_RECORD = 5_000;

export const isLarge = (task) => task.size > SINGLE_PUT_MAX_BYTES;

export class Batches {
  /** `services` as of Sessions, and {sessions} */
  constructor(services) {
    this.services = services;
  }

  /** From its present state to its end. Rejects with the signal's reason when it is cut, else with UploadError. */
  async run(batch, signal) {
    const { board, locks, account } = this.services;
    if (!batch.batch_id) await this.#begin(batch, signal);
    const name = `heavylift:${await account()}:batch:${batch.batch_id}`;
    const told = (waits) => board.noteBatch(batch, { notice: waits ? "Another tab sends this batch. This one waits for it." : null });
    await alone(locks, name, signal, told, () => this.#go(batch, signal));
  }

  async #go(batch, signal) {
    const { board, follow } = this.services;
    if (!batch.complete) {
      if (!batch.listed) await this.#list(batch, signal);
      board.toBatch(batch, "uploading");
      await new Members(batch, this.services, signal).sent();
      const again = batch.tasks.filter((task) => task.state === "failed" && task.error.retryable).length;
      if (again) {
        const words = `${again} of ${batch.tasks.length} files could not be sent. What is there stays; try again.`;
        throw new UploadError("files_failed", words, true);
      }
      await this.#end(batch, signal);
    }
    for (const task of batch.tasks) {
      if (task.state !== "queued" || !task.failed_at_server) continue;
      await this.services.sessions.send(task, signal);
      board.to(task, "processing");
    }
    if (follow) await this.#follow(batch, signal);
    await forget(this.services, batch.batch_id);
  }

  async #begin(batch, signal) {
    const { api, board, clock } = this.services;
    board.toBatch(batch, "preparing");
    if (batch.tasks.length > BATCH_FILES_MAX) {
      throw new UploadError("too_many_files", `A batch takes ${BATCH_FILES_MAX} files, these are ${batch.tasks.length}: add its folders one by one.`);
    }
    const { kind, type, data_type, description, metadata, rules, facility } = batch.declared;
    // What a batch has no field for goes into its metadata, as the Python client has it.
    const more = Object.entries({ data_type, description, type }).filter(([, value]) => value !== undefined);
    const all = more.length ? { ...metadata, ...Object.fromEntries(more) } : metadata;
    const said = { kind: kind ?? "other", total: batch.tasks.length, mode: "post", checksum: "sha256", metadata: all, rules, facility };
    // The key stays with the batch: a begin whose answer was lost finds the same batch again.
    batch.key ??= requestKey();
    const answer = await api.call("POST", "/v1/batches", { body: said, key: batch.key, signal });
    board.noteBatch(batch, { batch_id: answer.body.batch_id, record: answer.body });
    batch.form = answer.body.policy ? signedForm(answer.body.policy, answer.asked_at) : null;
    batch.began_at = new Date().toISOString();
    batch.noted_at = clock.now();
    for (const task of batch.tasks) {
      const id = memberId(batch.batch_id, task.n);
      task.file_id = id;
    }
  }

  async #list(batch, signal) {
    const { api, board } = this.services;
    board.toBatch(batch, "preparing");
    await remember(this.services, batch);
    const entries = batch.tasks.map(({ n, name, size, relative_path }) => ({
      n,
      name: clean(name),
      size,
      ...(relative_path === null ? {} : { relative_path: clean(relative_path) }),
    }));
    const path = `/v1/batches/${segment(batch.batch_id)}/manifest/`;
    let number = 0;
    for (const page of pagesOf(entries)) {
      await api.call("PUT", path + number, { body: { entries: page }, signal });
      number += 1;
    }
    batch.listed = true;
  }

  async #end(batch, signal) {
    const { api, board } = this.services;
    try {
      const { body } = await api.call("POST", `/v1/batches/${segment(batch.batch_id)}/complete`, { body: {}, signal });
      board.noteBatch(batch, { record: body ?? batch.record });
    } catch (error) {
      // It has ended by itself, because everything was there.
      if (!(error instanceof ApiError && error.code === "state_conflict")) throw error;
    }
    batch.complete = true;
  }

  async #follow(batch, signal) {
    const { api, board, clock } = this.services;
    board.toBatch(batch, "processing");
    const path = `/v1/batches/${segment(batch.batch_id)}`;
    for (let polls = 0; ; polls += 1) {
      const asked_at = clock.now();
      const record = (await api.call("GET", path, { query: { wait: WAIT_S }, signal })).body ?? {};
      board.noteBatch(batch, { record });
      if (record.final) break;
      // The gateway may answer before the time is up.
      if (clock.now() - asked_at < 1) await clock.sleep(pollSeconds(polls), signal);
    }
    await this.#verdicts(batch, path, signal);
    const { status, message } = batch.record;
    if (status === "cancelled" || status === "expired") throw new UploadError(status, message ?? `The batch is ${status}.`);
  }

  /** What became of every file; the page has its turn after each hundred. */
  async #verdicts(batch, path, signal) {
    const { api, board } = this.services;
    const tasks = new Map(batch.tasks.map((task) => [task.n, task]));
    for (let next_token; next_token !== null; ) {
      const { items, next_token: following } = (
        await api.call("GET", `${path}/files`, { query: { limit: FILES_PAGE, next_token }, signal })
      ).body;
      for (const item of items) {
        const task = tasks.get(item.n);
        if (!task || task.state !== "processing") continue;
        board.note(task, { record: item });
        const { error, at_server } = verdictOf(item);
        task.failed_at_server = at_server;
        board.to(task, error ? "failed" : "done", { error });
      }
      next_token = following ?? null;
    }
  }

  // going on

  /** The members of a batch that some other page has begun: [{n, name, relative_path, size, received}]. */
  async members(batch_id, signal) {
    const { api } = this.services;
    const path = `/v1/batches/${segment(batch_id)}`;
    const record = (await api.call("GET", path, { signal })).body;
    if (record.status !== "open") throw new UploadError("no_session", `That batch takes no more files: ${record.message}`);
    if (record.listed < record.total) throw new UploadError("no_session", "That batch was never listed whole. Cancel it and begin anew.");
    const members = [];
    for (let next_token; next_token !== null; ) {
      const page = (await api.call("GET", `${path}/files`, { query: { limit: FILES_PAGE, next_token }, signal })).body;
      for (const { n, name, relative_path, size, status } of page.items) {
        const received = !["created", "uploading"].includes(status);
        members.push({ n, name, relative_path: relative_path ?? null, size, received });
      }
      next_token = page.next_token ?? null;
    }
    return members;
  }
}

/** The files of one batch, until all are sent, failed or cancelled. */
class Members {
  #small;
  #large;
  #open = new Set();
  #hashing = 0;
  #ahead = 0;
  #ahead_bytes = 0;
  #largeNow = 0;
  #renewing = null;
  #noted = [];
  #record = 0;
  #own = new AbortController();

  constructor(batch, services, signal) {
    Object.assign(this, { batch, services });
    this.signal = AbortSignal.any([signal, this.#own.signal]);
    this.outer = signal;
  }

  sent() {
    const { tasks } = this.batch;
    return new Promise((resolve, reject) => {
      this.resolve = resolve;
      const cut = () => {
        this.#note(true); // what has arrived stays known, whatever becomes of the rest
        reject(this.outer.reason);
      };
      this.outer.addEventListener("abort", cut, { once: true });
      this.fail = (error) => {
        this.#own.abort(new Cut("failed"));
        reject(error);
      };
      this.batch.wake = (task) => this.#wake(task);
      const open = tasks.filter((task) => !task.ended && task.state !== "processing" && !task.failed_at_server);
      this.#open = new Set(open);
      const going = open.filter((task) => task.state !== "paused");
      this.#small = going.filter((task) => !isLarge(task));
      this.#large = going.filter(isLarge);
      if (!this.#large.length) this.services.sender.forSmall();
      this.#record = this.batch.stored_records ?? 0;
      this.#pump();
    });
  }

  /** A member that was paused or has failed goes on; one that was cancelled is no longer waited for. */
  #wake(task) {
    if (task.ended) {
      this.#open.delete(task);
    } else {
      this.#open.add(task);
      (isLarge(task) ? this.#large : this.#small).push(task);
    }
    this.#pump();
  }

  #pump() {
    if (this.signal.aborted) return;
    const { hasher } = this.services;
    while (this.#large.length && this.#largeNow < LARGE_AT_ONCE) {
      const task = this.#large.shift();
      if (task.state === "queued") this.#sendLarge(task);
    }
    while (this.#small.length && this.#hashing < hasher.width * HASHES_AT_ONCE && this.#ahead < AHEAD_FILES && this.#ahead_bytes < AHEAD_BYTES) {
      const task = this.#small.shift();
      if (task.state === "queued") this.#sendSmall(task);
    }
    if (!this.#open.size) this.#finish();
  }

  #finish() {
    this.#note(true).then(this.resolve, this.resolve);
  }

  /** A controller of the member's own within the batch's: one can be paused or cancelled alone. */
  #signalOf(task) {
    task.cutter = new AbortController();
    return AbortSignal.any([this.signal, task.cutter.signal]);
  }

  async #sendLarge(task) {
    const { sessions, board } = this.services;
    const signal = this.#signalOf(task);
    this.#largeNow += 1;
    task.running = sessions.send(task, signal).then(
      () => this.#arrived(task),
      (error) => this.#failed(task, error, signal),
    );
    await task.running;
    this.#largeNow -= 1;
    if (task.state !== "paused") board.note(task, {});
    this.#pump();
  }

  async #sendSmall(task) {
    const signal = this.#signalOf(task);
    this.#ahead += 1;
    this.#ahead_bytes += task.size;
    task.running = this.#sendForm(task, signal).then(
      () => this.#arrived(task),
      (error) => this.#failed(task, error, signal),
    );
    await task.running;
    this.#ahead -= 1;
    this.#ahead_bytes -= task.size;
    this.#pump();
  }

  async #sendForm(task, signal) {
    const { hasher, board, sender } = this.services;
    board.to(task, "preparing");
    this.#hashing += 1;
    try {
      task.digest = await hasher.sha256(task.blob, signal);
    } finally {
      this.#hashing -= 1;
    }
    this.#pump();
    if (await this.#isThere(task, signal)) return;
    board.to(task, "uploading");
    const { n, blob, size } = task;
    const signed = await this.#form();
    await new Promise((resolve, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      const job = {
        task,
        blob,
        size,
        digest: task.digest,
        via: "form",
        signed,
        signal,
        get fields() {
          return { key: job.signed.fields.key.replace("${filename}", String(n)), "x-amz-checksum-sha256": job.digest };
        },
        sign: (refused) => this.#form(refused && job.signed),
        rehash: async () => (task.digest = await hasher.sha256(blob, signal)),
        stored: resolve,
        // A form replaces what lies there, so a refusal for a condition or for an upload's id cannot be about us.
        ask: (answer) => reject(new StoreError(answer.status, answer.code, answer.message || "The store refused the file.")),
        failed: reject,
      };
      sender.offer(job);
    });
  }

  /** Whether an earlier page has sent this member. Its digest is compared before it is skipped. */
  async #isThere(task, signal) {
    const { api, board } = this.services;
    const { known } = this.batch;
    if (!known?.has(task.n)) return false;
    let digest = known.get(task.n);
    if (digest === null) {
      const record = (await api.call("GET", `/v1/files/${segment(memberId(this.batch.batch_id, task.n))}`, { signal })).body;
      digest = record?.checksums?.sha256 ?? null;
      if (digest === null) return false; // nobody knows its bytes: they are sent again
    } else {
      digest = hexOf(digest);
    }
    if (digest !== hexOf(task.digest)) {
      throw new UploadError("wrong_file", "This is another file than the one that was uploaded under this name before.");
    }
    board.found(task, task.size);
    return true;
  }

  /** The form that is good now; many files share it, and one of them renews it. `refused`: one that S3 does not take. */
  async #form(refused = null) {
    const { batch, services } = this;
    const old = batch.form;
    const stale = old?.stale_at != null && services.clock.now() >= old.stale_at;
    if (old && old !== refused && !stale) return old;
    this.#renewing ??= (async () => {
      const path = `/v1/batches/${segment(batch.batch_id)}/policy`;
      const { body, asked_at } = await services.api.call("POST", path, { body: { checksum: "sha256" }, signal: this.signal });
      batch.form = signedForm(body, asked_at);
      return batch.form;
    })().finally(() => {
      this.#renewing = null;
    });
    return this.#renewing;
  }

  #arrived(task) {
    const { board, follow } = this.services;
    if (!isLarge(task) && !this.batch.known?.has(task.n)) this.#noted.push([task.n, task.digest]);
    board.to(task, follow ? "processing" : "done");
    this.#open.delete(task);
    if (this.#noted.length >= NOTE_FILES || this.services.clock.now() - this.batch.noted_at >= NOTE_EVERY_S) this.#note(false);
  }

  #failed(task, error, signal) {
    const { board } = this.services;
    if (signal.aborted) return; // paused or cancelled: whoever did that has set its state
    // The batch as a whole takes no more: its other files would fare the same.
    const closed = error instanceof ApiError && ["state_conflict", "batch_expired", "unauthorized", "forbidden"].includes(error.code);
    board.to(task, "failed", { error });
    this.#open.delete(task);
    if (closed && !isLarge(task)) this.fail(error);
  }

  /** Which files have arrived, for a later visit. */
  async #note(last) {
    const { records, account, clock } = this.services;
    const { batch } = this;
    batch.noted_at = clock.now();
    if (!this.#noted.length) return;
    const stored = this.#noted;
    if (stored.length >= NOTE_FILES || last) {
      this.#noted = [];
      this.#record += 1;
    }
    const number = this.#noted.length ? this.#record + 1 : this.#record;
    batch.stored_records = this.#record;
    await records.put({ id: `${batch.batch_id}/stored/${number}`, account: within(await account(), batch.batch_id), kind: "stored", stored: [...stored] });
    if (last) await rememberHead(this.services, batch);
  }
}

// memory of a later visit

const within = (account, batch_id) => `${account}#${batch_id}`;

/** What a later visit needs to go on: whose the batch is, its files, and which of them are there. */
async function remember(services, batch) {
  const { records, account } = services;
  const breathe = breather();
  const inside = within(await account(), batch.batch_id);
  for (let at = 0; at < batch.tasks.length; at += ENTRIES_A_RECORD) {
    const some = batch.tasks.slice(at, at + ENTRIES_A_RECORD);
    const entries = some.map(({ n, name, relative_path, size }) => [n, name, relative_path, size]);
    await records.put({ id: `${batch.batch_id}/entries/${at}`, account: inside, kind: "entries", entries });
    await breathe();
  }
  await rememberHead(services, batch);
}

async function rememberHead({ records, account }, batch) {
  const { name, declared, handles, began_at, totals } = batch;
  const about = { name, declared: plain(declared), handles, began_at, size: totals.size, bytes: totals.bytes, files: batch.tasks.length };
  await records.put({ id: batch.batch_id, account: await account(), kind: "batch", ...about });
}

/** {entries: [[n, name, relative_path, size]], stored: Map(n -> base64 digest), records: how many notes there are}. */
export async function recall({ records, account }, batch_id) {
  const entries = [];
  const stored = new Map();
  let notes = 0;
  for (const record of await records.list(within(await account(), batch_id))) {
    if (record.kind === "entries") entries.push(...record.entries);
    if (record.kind !== "stored") continue;
    notes = Math.max(notes, Number(record.id.split("/").at(-1)));
    for (const [n, digest] of record.stored) if (fromBase64(digest).length === 32) stored.set(n, digest);
  }
  return { entries, stored, records: notes };
}

export async function forget({ records, account }, batch_id) {
  for (const { id } of await records.list(within(await account(), batch_id))) await records.delete(id);
  await records.delete(batch_id);
}

