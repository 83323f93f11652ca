// The state of all uploads of one page: what each file is doing, what is shown of it, who is told. No I/O here.

import { Meter } from "./meter.js";

const TELL_MS = 100; // ten times a second is what an eye can follow
const TELL_FILES = 500; // at once: a page that draws thousands in one turn would stand still
export const ENDS = new Set(["done", "failed", "cancelled"]);

class Deferred {
  constructor() {
    this.promise = new Promise((resolve) => {
      this.resolve = resolve;
    });
  }
}

/** What a page sees of a file. Everything is read from the task; pages cannot write it. */
class UploadFile extends EventTarget {
  #task;

  constructor(task) {
    super();
    this.#task = task;
  }

  /** Most files are listened to by nobody: only their uploader's events are. */
  addEventListener(...given) {
    this.#task.heard = true;
    super.addEventListener(...given);
  }

  get id() { return this.#task.id; }
  get name() { return this.#task.name; }
  get relative_path() { return this.#task.relative_path; }
  get size() { return this.#task.size; }
  get state() { return this.#task.state; }
  get progress() { return this.#task.progress; }
  get error() { return this.#task.error; }
  get notice() { return this.#task.notice; }
  get batch() { return this.#task.batch?.view ?? null; }
  get n() { return this.#task.n; }
  get upload_id() { return this.#task.upload_id; }
  get file_id() { return this.#task.file_id; }
  get bytes_resumed() { return this.#task.resumed; }
  get record() { return this.#task.record; }
  get finished() { return this.#task.finished.promise; }
  pause() { this.#task.control.pause(this.#task); }
  resume() { this.#task.control.resume(this.#task); }
  cancel() { return this.#task.control.cancel(this.#task); }
  retry() { this.#task.control.retry(this.#task); }
}

class UploadBatch extends EventTarget {
  #batch;

  constructor(batch) {
    super();
    this.#batch = batch;
  }

  get id() { return this.#batch.id; }
  get name() { return this.#batch.name; }
  get batch_id() { return this.#batch.batch_id; }
  get state() { return this.#batch.state; }
  get files() { return this.#batch.views; }
  get progress() { return this.#batch.totals.shown(this.#batch.state); }
  get error() { return this.#batch.error; }
  get notice() { return this.#batch.notice; }
  get record() { return this.#batch.record; }
  get finished() { return this.#batch.finished.promise; }
  pause() { this.#batch.control.pauseBatch(this.#batch); }
  resume() { this.#batch.control.resumeBatch(this.#batch); }
  cancel() { return this.#batch.control.cancelBatch(this.#batch); }
  retry() { this.#batch.control.retryBatch(this.#batch); }
}

/** Sums over files, kept up to date file by file. */
export class Totals {
  files = 0;
  files_done = 0;
  files_failed = 0;
  size = 0;
  bytes = 0;
  resumed = 0;

  constructor(clock) {
    this.meter = new Meter(clock);
  }

  /** `sign` 1 takes a file in, -1 takes it out. */
  count(task, sign) {
    this.files += sign;
    this.size += sign * task.size;
    this.bytes += sign * task.shown;
    this.resumed += sign * task.resumed;
    if (task.state === "done") this.files_done += sign;
    if (task.state === "failed" || task.state === "cancelled") this.files_failed += sign;
  }

  shown() {
    const { files, files_done, files_failed, size, bytes } = this;
    return {
      files,
      files_done,
      files_failed,
      ...progressOf(bytes, size, this.meter, files > 0 && files_done === files),
    };
  }
}

function progressOf(bytes, size, meter, done) {
  const ratio = size ? bytes / size : done ? 1 : 0;
  return { bytes, size, ratio, speed_bytes_s: meter?.speed ?? null, seconds_left: meter?.left(size - bytes) ?? null };
}

/** A file on its way, as the engine knows it. */
export class Task {
  state = "queued";
  error = null;
  notice = null;
  upload_id = null;
  file_id = null;
  record = null;
  resumed = 0; // bytes that an earlier try had brought
  stored = 0; // bytes that lie in S3, those among them
  flying = 0; // bytes on the wire
  shown = 0; // never less than it was
  digest = null; // of a file that goes in one piece
  transfer = null; // {plan, digests, stored}: of one that goes in parts
  expected = null; // upload_id that this file has to go on with
  cutter = null; // AbortController of the present run
  running = Promise.resolve();
  paused_by = null;
  heard = false;
  failed_at_server = false;
  finished = new Deferred();
  view = new UploadFile(this);
  meter = null;

  constructor({ id, found, declared, batch = null, n = null, control }) {
    this.id = id;
    this.blob = found.file;
    this.handle = found.handle;
    this.name = found.name;
    this.relative_path = found.relative_path;
    this.size = found.file.size;
    this.declared = declared;
    this.batch = batch;
    this.n = n;
    this.control = control;
  }

  get ended() {
    return ENDS.has(this.state);
  }

  get progress() {
    return progressOf(this.shown, this.size, this.meter, this.state === "done" || this.state === "processing");
  }
}

/** A batch, as the engine knows it. */
export class Batch {
  state = "queued";
  error = null;
  notice = null;
  batch_id = null;
  record = null;
  tasks = [];
  views = [];
  cutter = null;
  running = Promise.resolve();
  paused_by = null;
  listed = false; // its manifest is at the server
  known = null; // Map n -> digest or null, of members that an earlier page has sent
  complete = false; // told that no more will come
  finished = new Deferred();
  view = new UploadBatch(this);

  constructor({ id, name, declared, handles, control, clock }) {
    this.id = id;
    this.name = name;
    this.declared = declared;
    this.handles = handles;
    this.control = control;
    this.totals = new Totals(clock);
  }

  get ended() {
    return ENDS.has(this.state);
  }
}

export class Board {
  tasks = [];
  batches = [];
  #owner;
  #clock;
  #dirty = new Set();
  #dirtyBatches = new Set();
  #ended = [];
  #timer = null;
  #active = 0;
  #busy = false;

  constructor(owner, clock) {
    this.#owner = owner;
    this.#clock = clock;
    this.totals = new Totals(clock);
  }

  /** How many files and batches have not come to an end and are not paused. */
  get active() {
    return this.#active;
  }

  add(task) {
    this.tasks.push(task);
    this.totals.count(task, 1);
    if (task.batch) {
      task.batch.tasks.push(task);
      task.batch.views.push(task.view);
      task.batch.totals.count(task, 1);
    }
    this.#active += 1;
    this.#busy = true;
    this.#tell(task);
  }

  addBatch(batch) {
    this.batches.push(batch);
    this.#active += 1;
    this.#busy = true;
    this.#tellBatch(batch);
  }

  /** Forget what has ended. */
  clear() {
    const gone = new Set(this.batches.filter((batch) => batch.ended));
    for (const task of this.tasks) if (this.#forgettable(task, gone)) this.totals.count(task, -1);
    this.tasks = this.tasks.filter((task) => !this.#forgettable(task, gone));
    this.batches = this.batches.filter((batch) => !gone.has(batch));
  }

  #forgettable(task, batches) {
    return task.batch ? batches.has(task.batch) : task.ended;
  }

  /** A new state; `error` and `notice` go with it. An end resolves `finished`. */
  to(task, state, { error = null, notice = null } = {}) {
    const before = task.state;
    this.#change(task, () => {
      task.state = state;
      task.error = error && { code: error.code ?? "internal", message: error.message, retryable: Boolean(error.retryable) };
      task.notice = notice;
      if (state === "done" || state === "processing" || state === "assembling") task.shown = task.size;
    });
    this.#enters(task, before, state);
    if (ENDS.has(state) && !ENDS.has(before)) {
      task.meter = null;
      this.#ended.push(task);
      task.finished.resolve(task.view);
    }
    if (ENDS.has(before) && !ENDS.has(state)) task.finished = new Deferred();
    this.#tell(task);
  }

  toBatch(batch, state, { error = null, notice = null } = {}) {
    const before = batch.state;
    batch.state = state;
    batch.error = error && { code: error.code ?? "internal", message: error.message, retryable: Boolean(error.retryable) };
    batch.notice = notice;
    this.#enters(batch, before, state);
    if (ENDS.has(state) && !ENDS.has(before)) batch.finished.resolve(batch.view);
    if (ENDS.has(before) && !ENDS.has(state)) batch.finished = new Deferred();
    this.#tellBatch(batch);
  }

  notice(task, notice) {
    task.notice = notice;
    this.#tell(task);
  }

  /** Facts that have no state of their own: ids, records. */
  note(task, facts) {
    Object.assign(task, facts);
    this.#tell(task);
  }

  noteBatch(batch, facts) {
    Object.assign(batch, facts);
    this.#tellBatch(batch);
  }

  /** Bytes that go over the wire; negative when they have to go again. */
  moved(task, bytes) {
    if (!bytes) return;
    this.#change(task, () => {
      task.flying += bytes;
    });
    this.#tell(task);
  }

  /** `size` bytes lie in S3, `flown` of which were counted as on the wire. */
  arrived(task, size, flown) {
    this.#change(task, () => {
      task.flying -= flown;
      task.stored += size;
    });
    this.#tell(task);
  }

  /** `size` bytes were there already, and are proven the same. */
  found(task, size) {
    this.#change(task, () => {
      task.stored += size;
      task.resumed += size;
    });
    this.#tell(task);
  }

  /** Parts that the store turned out not to have. */
  lost(task, size) {
    this.#change(task, () => {
      task.stored -= size;
      task.resumed = Math.min(task.resumed, task.stored);
    });
    this.#tell(task);
  }

  /** The file starts again from nothing: the only time that what is shown goes back. */
  restarted(task) {
    this.#change(task, () => {
      task.stored = task.flying = task.resumed = task.shown = 0;
      task.transfer = null;
    });
    this.#tell(task);
  }

  #change(task, change) {
    this.totals.count(task, -1);
    task.batch?.totals.count(task, -1);
    change();
    task.shown = Math.max(task.shown, Math.min(task.size, task.stored + task.flying));
    this.totals.count(task, 1);
    task.batch?.totals.count(task, 1);
  }

  #enters(one, before, state) {
    const rests = (name) => ENDS.has(name) || name === "paused";
    this.#active += Number(rests(before)) - Number(rests(state));
    if (this.#active) this.#busy = true;
    if (rests(state)) one.meter?.rest();
  }

  #tell(task) {
    this.#dirty.add(task);
    if (task.batch) this.#dirtyBatches.add(task.batch);
    this.#soon();
  }

  #tellBatch(batch) {
    this.#dirtyBatches.add(batch);
    this.#soon();
  }

  #soon() {
    this.#timer ??= setTimeout(() => this.flush(), TELL_MS);
  }

  /** Tell everybody what changed. */
  flush() {
    clearTimeout(this.#timer);
    this.#timer = null;
    const tasks = [];
    for (const task of this.#dirty) {
      if (tasks.length === TELL_FILES) break;
      this.#dirty.delete(task);
      tasks.push(task);
    }
    const batches = [...this.#dirtyBatches];
    const ended = this.#ended.splice(0, TELL_FILES);
    this.#dirtyBatches.clear();
    const more = this.#dirty.size + this.#ended.length > 0;
    if (more) this.#timer = setTimeout(() => this.flush(), 0);
    this.#measure(tasks, batches);
    const detail = { files: tasks.map((task) => task.view), batches: batches.map((batch) => batch.view) };
    for (const task of tasks) if (task.heard) task.view.dispatchEvent(new Event("change"));
    for (const batch of detail.batches) batch.dispatchEvent(new Event("change"));
    this.#owner.dispatchEvent(new CustomEvent("change", { detail }));
    for (const task of ended) this.#owner.dispatchEvent(new CustomEvent("end", { detail: task.view }));
    const idle = !more && this.#busy && this.#active === 0;
    this.#busy = more || this.#active > 0;
    if (idle) this.#owner.dispatchEvent(new CustomEvent("idle", { detail: null }));
  }

  #measure(tasks, batches) {
    for (const task of tasks) {
      if (task.state !== "uploading" || (task.batch && !task.transfer)) continue; // small members: the batch tells
      task.meter ??= new Meter(this.#clock);
      task.meter.saw(task.shown - task.resumed);
    }
    for (const { totals } of batches) totals.meter.saw(totals.bytes - totals.resumed);
    const { totals } = this;
    if (this.#active) totals.meter.saw(totals.bytes - totals.resumed);
    else totals.meter.rest();
  }
}
