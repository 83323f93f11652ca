// The upload engine: createUploader() and what it is made of. Its shape is in index.d.ts, its use in docs/browser.md.

import { Announcer } from "./announcing.js";
import { Api, segment } from "./api.js";
import { browserClock } from "./backoff.js";
import { Batches, forget, isLarge, recall } from "./batches.js";
import { Batch, Board, Task } from "./board.js";
import { breather } from "./breath.js";
import { Cut, UploadError } from "./errors.js";
import { fingerprintOf } from "./fingerprint.js";
import { workerHasher } from "./hasher.js";
import { MOST, Pace } from "./pace.js";
import { MIB, planOf } from "./plan.js";
import { Presence } from "./presence.js";
import { Sender } from "./sending.js";
import { Sessions } from "./sessions.js";
import { collect } from "./sources.js";
import { browserStorage, forgiving } from "./storage.js";
import { browserTransport } from "./transport.js";

export { UploadError, fingerprintOf, planOf };

const BATCH_ABOVE_FILES = 20; // so many files at once are better told of as one
const LARGE_AT_ONCE = 2; // the next one is read while the last parts of this one go
const SMALL_AT_ONCE = 400; // two calls for sessions: one goes up while the next is prepared
const SAFARI_PART_BYTES = 32 * MIB; // phones and Safari keep more of a body in memory than they send

/** @param {import("./index.d.ts").UploaderOptions} options @returns {import("./index.d.ts").Uploader} */
export function createUploader(options) {
  return new Uploader(options);
}

function partSizeMax() {
  const { userAgent = "", userAgentData } = globalThis.navigator ?? {};
  const safari = /safari/i.test(userAgent) && !/chrome|chromium|crios|android|fxios|edg/i.test(userAgent);
  return safari || userAgentData?.mobile || /iphone|ipad|android/i.test(userAgent) ? SAFARI_PART_BYTES : undefined;
}

/** Whose records these are: what the token says of its owner, so that two people at one browser see their own. */
function ownerOf(token) {
  try {
    const text = atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
    const { iss = "", sub = "", tenant = "" } = JSON.parse(text);
    return `${iss} ${tenant} ${sub}`;
  } catch {
    return "default";
  }
}

class Uploader extends EventTarget {
  #board;
  #presence;
  #services;
  #sessions;
  #batches;
  #queue = { small: [], large: [], batches: [] };
  #running = { small: 0, large: 0, batches: 0 };
  #paused = false;
  #closed = false;
  #last = 0;

  constructor({
    api,
    token,
    account,
    follow = true,
    max_concurrency = MOST,
    max_part_size = partSizeMax(),
    patience_s = 900,
    base = new URL(".", import.meta.url),
    transport = browserTransport(),
    storage = browserStorage(),
    locks = globalThis.navigator?.locks ?? null,
    hasher = workerHasher(base),
    clock = browserClock,
    network = globalThis.window ?? Object.assign(new EventTarget(), { onLine: true }),
  }) {
    super();
    // `window` has the events, `navigator` the state.
    const known = network === globalThis.window ? windowNetwork() : network;
    this.#presence = new Presence(clock, known);
    this.#presence.addEventListener("change", () => {
      const { online } = this.#presence;
      this.dispatchEvent(new CustomEvent("connection", { detail: { online } }));
    });
    this.#board = new Board(this, clock);
    const board = this.#board;
    const presence = this.#presence;
    const calls = new Api({ api, token, transport, clock, presence, patience_s });
    let owner = null;
    const whose = async () => {
      owner ??= `${api || globalThis.location?.origin || ""} ${account ?? ownerOf(await calls.bearer())}`;
      return owner;
    };
    const sender = new Sender({ transport, pace: new Pace(max_concurrency, clock), clock, presence, patience_s, board });
    const announcer = new Announcer({ api: calls, clock, max_part_size });
    const records = forgiving(storage);
    this.#services = { api: calls, announcer, hasher, sender, board, clock, presence, locks, records, account: whose, follow };
    this.#sessions = new Sessions(this.#services);
    this.#services.sessions = this.#sessions;
    this.#batches = new Batches(this.#services);
  }

  get files() {
    return this.#board.tasks.map((task) => task.view);
  }

  get batches() {
    return this.#board.batches.map((batch) => batch.view);
  }

  get progress() {
    return this.#board.totals.shown();
  }

  get online() {
    return this.#presence.online;
  }

  get paused() {
    return this.#paused;
  }

  async add(what, options = {}) {
    const collecting = collect(what); // in this very turn: a drop is empty afterwards
    const collected = await collecting;
    return this.#take(collected, options);
  }

  async #take({ found, folder, handles, problems }, { batch: wanted = "auto", name, ...declared }, again = null) {
    if (this.#closed) throw new UploadError("closed", "This uploader was closed.");
    if (!found.length && !problems.length) throw new UploadError("nothing_to_upload", "There are no files in it.");
    if (typeof wanted === "string" && wanted !== "auto") return this.#goOn(wanted, { found, handles, name: name ?? folder, declared });
    const together = wanted === true || (wanted === "auto" && (folder !== null || found.length > BATCH_ABOVE_FILES));
    const batch = together && found.length ? this.#batch({ name: name ?? folder ?? `${found.length} files`, declared, handles }) : null;
    const files = await this.#enlist(found, batch, declared, again?.expected ?? null);
    if (batch) this.#enqueueBatch(batch);
    const added = { files: files.map((task) => task.view), batch: batch?.view ?? null, problems };
    this.dispatchEvent(new CustomEvent("added", { detail: added }));
    return added;
  }

  #batch({ name, declared, handles }) {
    this.#last += 1;
    const clock = this.#services.clock;
    return new Batch({ id: `b${this.#last}`, name, declared, handles: handles ?? [], control: this, clock });
  }

  /** Tasks for what was found; thousands of them leave the page its turns. */
  async #enlist(found, batch, declared, expected) {
    const breathe = breather();
    const tasks = [];
    if (batch) this.#board.addBatch(batch);
    for (const one of found) {
      this.#last += 1;
      const n = batch ? (one.n ?? tasks.length) : null;
      // Files that were chosen together lie in no folder; their names need not differ, their numbers do.
      const task = new Task({ id: `f${this.#last}`, found: one, declared, batch, n, control: this });
      task.expected = expected;
      if (this.#paused) this.#hold(task);
      this.#board.add(task);
      tasks.push(task);
      if (!batch && task.state === "queued") this.#enqueue(task);
      await breathe();
    }
    return tasks;
  }

  #hold(task) {
    task.state = "paused";
    task.paused_by = "all";
  }

  #enqueue(task, first = false) {
    const queue = isLarge(task) ? this.#queue.large : this.#queue.small;
    if (first) queue.unshift(task);
    else queue.push(task);
    this.#pump();
  }

  #enqueueBatch(batch) {
    if (this.#paused) {
      batch.paused_by = "all";
      this.#board.toBatch(batch, "paused");
      return;
    }
    this.#queue.batches.push(batch);
    this.#pump();
  }

  #pump() {
    if (this.#closed) return;
    const { small, large, batches } = this.#queue;
    while (small.length && this.#running.small < SMALL_AT_ONCE) this.#start("small", small.shift(), (task) => this.#run(task));
    while (large.length && this.#running.large < LARGE_AT_ONCE) this.#start("large", large.shift(), (task) => this.#run(task));
    while (batches.length && this.#running.batches < 1) this.#start("batches", batches.shift(), (batch) => this.#runBatch(batch));
  }

  #start(kind, one, run) {
    if (one.state !== "queued") return;
    this.#running[kind] += 1;
    one.running = run(one, () => {}).finally(() => {
      this.#running[kind] -= 1;
      this.#pump();
    });
  }

  async #run(task) {
    const { board, follow } = { board: this.#board, follow: this.#services.follow };
    task.cutter = new AbortController();
    const { signal } = task.cutter;
    try {
      await this.#sessions.send(task, signal);
      signal.throwIfAborted();
    } catch (error) {
      this.#ended(task, error, signal);
      return;
    }
    if (!follow) {
      board.to(task, "done");
      return;
    }
    // What the server does takes nobody's turn.
    this.#sessions.follow(task, signal).then(
      () => board.to(task, "done"),
      (error) => this.#ended(task, error, signal),
    );
  }

  #ended(task, error, signal) {
    if (signal.aborted) return; // whoever cut it has set its state
    if (!(error instanceof UploadError)) reportError?.(error);
    this.#board.to(task, "failed", { error });
  }

  async #runBatch(batch) {
    batch.cutter = new AbortController();
    const { signal } = batch.cutter;
    try {
      await this.#batches.run(batch, signal);
      this.#board.toBatch(batch, "done");
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof UploadError)) reportError?.(error);
      this.#board.toBatch(batch, "failed", { error });
      for (const task of batch.tasks) {
        if (!task.ended) this.#board.to(task, "failed", { error: new UploadError("batch_failed", `The batch has failed: ${error.message}`, error.retryable) });
      }
    }
  }

  // one file

  pause(task) {
    if (task === undefined) {
      this.#pauseAll();
      return;
    }
    this.#pauseTask(task, "file");
  }

  #pauseTask(task, by) {
    // What is joined or looked at by the server cannot be stopped by holding back bytes.
    if (!["queued", "preparing", "uploading"].includes(task.state)) return;
    task.paused_by = by;
    this.#board.to(task, "paused");
    task.cutter?.abort(new Cut("paused"));
  }

  resume(task) {
    if (task === undefined) {
      this.#resumeAll();
      return;
    }
    this.#resumeTask(task);
  }

  #resumeTask(task) {
    if (task.state !== "paused") return;
    this.#board.to(task, "queued");
    this.#goOnWith(task);
  }

  /** After the run that was cut has let go of it. */
  #goOnWith(task) {
    const { batch } = task;
    task.running.finally(() => {
      if (task.state !== "queued") return;
      if (!batch) this.#enqueue(task, true);
      else if (batch.state === "uploading" && batch.wake) batch.wake(task);
    });
  }

  retry(task) {
    if (task === undefined) {
      this.#retryAll();
      return;
    }
    if (task.state !== "failed") return;
    const { batch } = task;
    if (task.record?.status === "expired" || task.error.code === "upload_expired") {
      this.#board.restarted(task);
      task.upload_id = task.record = null;
    }
    this.#board.to(task, "queued");
    if (batch && batch.ended) this.#again(batch);
    else if (batch) this.#goOnWith(task);
    else this.#goOnWith(task);
  }

  async cancel(task) {
    if (task === undefined) {
      await this.#cancelAll();
      return;
    }
    if (task.state === "cancelled" || task.state === "done") return;
    const before = task.state;
    this.#board.to(task, "cancelled");
    task.cutter?.abort(new Cut("cancelled"));
    await task.running;
    if (task.batch) {
      if (task.batch.state === "uploading" && before !== "failed" && before !== "processing") task.batch.wake?.(task);
      if (before !== "queued" && task.file_id) await this.#delete(`/v1/uploads/${segment(task.file_id)}`);
      return;
    }
    if (!task.upload_id) return;
    await this.#delete(`/v1/uploads/${segment(task.upload_id)}`);
    await this.#services.records.delete(task.upload_id);
  }

  /** What is not there any more, or is beyond cancelling, is left as it is. */
  async #delete(path) {
    const { api } = this.#services;
    try {
      await api.call("DELETE", path);
    } catch (error) {
      if (!(error.status === 404 || error.status === 409)) throw error;
    }
  }

  // one batch

  pauseBatch(batch, by = "batch") {
    if (!["queued", "preparing", "uploading"].includes(batch.state)) return;
    batch.paused_by = by;
    this.#board.toBatch(batch, "paused");
    batch.cutter?.abort(new Cut("paused"));
    for (const task of batch.tasks) this.#pauseTask(task, "batch");
  }

  resumeBatch(batch) {
    if (batch.state !== "paused") return;
    this.#board.toBatch(batch, "queued");
    batch.running.finally(() => {
      if (batch.state !== "queued") return;
      for (const task of batch.tasks) {
        if (task.state === "paused" && task.paused_by !== "file") this.#board.to(task, "queued");
      }
      this.#queue.batches.unshift(batch);
      this.#pump();
    });
  }

  retryBatch(batch) {
    if (batch.state !== "failed" && !batch.tasks.some((task) => task.state === "failed" && task.error.retryable)) return;
    for (const task of batch.tasks) {
      if (task.state === "failed" && task.error.retryable) this.#board.to(task, "queued");
    }
    if (batch.ended) this.#again(batch);
    else for (const task of batch.tasks) if (task.state === "queued") batch.wake?.(task);
  }

  #again(batch) {
    if (!batch.ended || batch.state === "cancelled") return;
    this.#board.toBatch(batch, "queued");
    batch.running.finally(() => {
      this.#queue.batches.push(batch);
      this.#pump();
    });
  }

  async cancelBatch(batch) {
    if (batch.state === "cancelled" || batch.state === "done") return;
    this.#board.toBatch(batch, "cancelled");
    batch.cutter?.abort(new Cut("cancelled"));
    const breathe = breather();
    for (const task of batch.tasks) {
      if (!task.ended) this.#board.to(task, "cancelled");
      await breathe();
    }
    await batch.running;
    await Promise.all(batch.tasks.map((task) => task.running));
    if (!batch.batch_id) return;
    await this.#delete(`/v1/batches/${segment(batch.batch_id)}`);
    await forget(this.#services, batch.batch_id);
  }

  // all

  #pauseAll() {
    this.#paused = true;
    for (const batch of this.#board.batches) this.pauseBatch(batch, "all");
    for (const task of this.#board.tasks) if (!task.batch) this.#pauseTask(task, "all");
  }

  #resumeAll() {
    this.#paused = false;
    for (const batch of this.#board.batches) if (batch.paused_by === "all") this.resumeBatch(batch);
    for (const task of this.#board.tasks) if (!task.batch && task.paused_by === "all") this.#resumeTask(task);
  }

  async #cancelAll() {
    await Promise.all([
      ...this.#board.batches.filter((batch) => !batch.ended).map((batch) => this.cancelBatch(batch)),
      ...this.#board.tasks.filter((task) => !task.ended && !task.batch).map((task) => this.cancel(task)),
    ]);
  }

  #retryAll() {
    for (const batch of this.#board.batches) this.retryBatch(batch);
    for (const task of this.#board.tasks) if (!task.batch && task.state === "failed" && task.error.retryable) this.retry(task);
  }

  clear() {
    this.#board.clear();
    this.dispatchEvent(new CustomEvent("change", { detail: { files: [], batches: [] } }));
  }

  close() {
    this.#closed = true;
    for (const one of [...this.#board.batches, ...this.#board.tasks]) {
      if (!one.ended) one.cutter?.abort(new Cut("closed"));
    }
    this.#presence.close();
    this.#services.hasher.close();
  }

  // what earlier pages left

  async resumable() {
    const { records, account } = this.#services;
    const busy = new Set([...this.#board.tasks.map((task) => task.upload_id), ...this.#board.batches.map((batch) => batch.batch_id)]);
    const kept = (await records.list(await account())).filter(({ id }) => !busy.has(id));
    return kept
      .sort((a, b) => (a.began_at < b.began_at ? 1 : -1))
      .map(({ id, kind, name, size, bytes, began_at, files = 1, handle, handles }) => ({
        kind,
        id,
        name,
        size,
        files,
        bytes,
        began_at,
        has_handle: Boolean(handle ?? handles?.length),
        resume: (again) => this.#resumeKept(id, again),
        discard: () => this.#discard(kind, id),
      }));
  }

  async #discard(kind, id) {
    await this.#delete(`/v1/${kind === "batch" ? "batches" : "uploads"}/${segment(id)}`);
    if (kind === "batch") await forget(this.#services, id);
    else await this.#services.records.delete(id);
  }

  async #resumeKept(id, again) {
    const collecting = again === undefined ? null : collect(again);
    const record = await this.#services.records.get(id);
    if (!record) throw new UploadError("no_session", "Nothing is known of that upload any more. Add the file anew.");
    const collected = collecting ? await collecting : await collect(await permitted(record.handles ?? [record.handle]));
    if (record.kind === "batch") {
      const { found, handles, folder } = collected;
      const { declared, name } = record;
      return this.#goOn(id, { found, handles: handles.length ? handles : record.handles, name: name ?? folder, declared, kept: true });
    }
    const [one] = collected.found;
    if (collected.found.length !== 1 || one.file.size !== record.size) throw wrongFile(record);
    if ((await this.#services.hasher.fingerprint(one.file)) !== record.fingerprint) throw wrongFile(record);
    const { name, relative_path, handle, declared } = record;
    const found = [{ ...one, name, relative_path, handle: one.handle ?? handle }];
    return this.#take({ ...collected, found }, { ...declared, batch: false }, { expected: id });
  }

  /** A batch that is open already, with its files chosen again. */
  async #goOn(batch_id, { found, handles, name, declared, kept = false }) {
    const memory = kept ? await recall(this.#services, batch_id) : null;
    const { members, known } = memory?.entries.length ? remembered(memory) : await this.#announced(batch_id);
    const files = new Map(found.map((one) => [keyOf(one), one]));
    const missing = members.filter((one) => files.get(keyOf(one))?.file.size !== one.size);
    if (missing.length) {
      const [first] = missing;
      const words = `${missing.length} of its ${members.length} files are missing or of another size, the first is ${first.relative_path ?? first.name}.`;
      throw new UploadError("wrong_file", `This is not the folder that was being uploaded: ${words}`);
    }
    const again = members.map((one) => ({ ...files.get(keyOf(one)), name: one.name, relative_path: one.relative_path, n: one.n }));
    const batch = this.#batch({ name: name ?? batch_id, declared, handles });
    Object.assign(batch, { batch_id, known, listed: !kept, stored_records: memory?.records ?? 0, began_at: new Date().toISOString() });
    batch.noted_at = this.#services.clock.now();
    const tasks = await this.#enlist(again, batch, declared, null);
    for (const task of tasks) task.file_id = `${batch_id}-${String(task.n).padStart(6, "0")}`;
    this.#enqueueBatch(batch);
    const added = { files: tasks.map((task) => task.view), batch: batch.view, problems: [] };
    this.dispatchEvent(new CustomEvent("added", { detail: added }));
    return added;
  }

  async #announced(batch_id) {
    const { members } = await this.#batches.members(batch_id);
    return { members, known: new Map(members.filter((one) => one.received).map((one) => [one.n, null])) };
  }
}

/** A file of a batch is found again by its path; files without a folder by their names. */
const keyOf = ({ relative_path, name }) => relative_path ?? name;

const remembered = ({ entries, stored }) => ({
  members: entries.map(([n, name, relative_path, size]) => ({ n, name, relative_path, size })),
  known: stored,
});

const wrongFile = ({ name, size }) =>
  new UploadError("wrong_file", `This is not the file that was being uploaded: ${name} with ${size} bytes is wanted.`);

/** Kept handles, once the person has allowed to read them again. */
async function permitted(handles) {
  const kept = handles.filter(Boolean);
  if (!kept.length) throw new UploadError("file_wanted", "Choose the file again: this browser keeps no reference to it.");
  for (const handle of kept) {
    const wanted = { mode: "read" };
    const allowed = (await handle.queryPermission?.(wanted)) ?? "granted";
    if (allowed !== "granted" && (await handle.requestPermission(wanted)) !== "granted") {
      throw new UploadError("permission_denied", "The browser may not read the file. Allow it, or choose the file again.");
    }
  }
  return kept;
}

function windowNetwork() {
  const network = new EventTarget();
  Object.defineProperty(network, "onLine", { get: () => navigator.onLine });
  for (const name of ["online", "offline"]) globalThis.addEventListener(name, () => network.dispatchEvent(new Event(name)));
  return network;
}
