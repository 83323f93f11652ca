// Whose turn it is, and what a person may do with a file or a batch: pause, resume, cancel, retry.

import { segment } from "./api.js";
import { forget, isLarge } from "./batches.js";
import { breather } from "./breath.js";
import { Cut, UploadError } from "./errors.js";

const LARGE_AT_ONCE = 2; // the next one is read while the last parts of this one go
const SMALL_AT_ONCE = 400; // two calls for sessions: one goes up while the next is prepared

export class Control {
  /** Whether all is paused: what comes waits, too. */
  paused = false;
  #queue = { small: [], large: [], batches: [] };
  #running = { small: 0, large: 0, batches: 0 };
  #closed = false;
  #services;
  #board;
  #sessions;
  #batches;

  /** `services` as of Sessions, and {batches} */
  constructor(services) {
    this.#services = services;
    this.#board = services.board;
    this.#sessions = services.sessions;
    this.#batches = services.batches;
  }

  get closed() {
    return this.#closed;
  }

  /** A file without a batch, from now on. */
  begin(task) {
    if (this.paused) this.pause(task, "all");
    else this.#enqueue(task);
  }

  /** A batch with all its files, from now on. */
  beginBatch(batch) {
    if (this.paused) this.pauseBatch(batch, "all");
    else this.#enqueueBatch(batch);
  }

  #enqueue(task, first = false) {
    const queue = isLarge(task) ? this.#queue.large : this.#queue.small;
    if (first) queue.unshift(task);
    else queue.push(task);
    this.#pump();
  }

  #enqueueBatch(batch) {
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
    one.running = run(one).finally(() => {
      this.#running[kind] -= 1;
      this.#pump();
    });
  }

  async #run(task) {
    const board = this.#board;
    task.cutter = new AbortController();
    const { signal } = task.cutter;
    try {
      await this.#sessions.send(task, signal);
      signal.throwIfAborted();
    } catch (error) {
      this.#ended(task, error, signal);
      return;
    }
    if (!this.#services.follow) {
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
    if (!(error instanceof UploadError)) globalThis.reportError?.(error);
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
      if (!(error instanceof UploadError)) globalThis.reportError?.(error);
      this.#board.toBatch(batch, "failed", { error });
      const because = new UploadError("batch_failed", `The batch has failed: ${error.message}`, error.retryable);
      for (const task of batch.tasks) {
        // What was sent may still come to a good end at the server, unless the batch itself is over.
        if (task.ended || (task.state === "processing" && error.retryable)) continue;
        this.#board.to(task, "failed", { error: because });
      }
    }
  }

  // one file

  pause(task, by = "file") {
    // What is joined or looked at by the server cannot be stopped by holding back bytes.
    if (!["queued", "preparing", "uploading"].includes(task.state)) return;
    task.paused_by = by;
    this.#board.to(task, "paused");
    task.cutter?.abort(new Cut("paused"));
  }

  resume(task) {
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
    if (task.state !== "failed") return;
    const { batch } = task;
    if (task.record?.status === "expired" || task.error.code === "upload_expired") {
      this.#board.restarted(task);
      task.upload_id = task.record = null;
    }
    this.#board.to(task, "queued");
    if (batch?.ended) this.#again(batch);
    else this.#goOnWith(task);
  }

  async cancel(task) {
    if (task.state === "cancelled" || task.state === "done") return;
    const before = task.state;
    if (before === "processing" && !(await this.#delete(`/v1/uploads/${segment(task.file_id)}`))) return; // it is a file by now
    this.#board.to(task, "cancelled");
    task.cutter?.abort(new Cut("cancelled"));
    await task.running;
    if (task.batch) {
      task.batch.wake?.(task);
      if (!["queued", "processing"].includes(before) && task.file_id) await this.#delete(`/v1/uploads/${segment(task.file_id)}`);
    } else if (task.upload_id && !(await this.discard("file", task.upload_id))) {
      this.#board.notice(task, "The server could not be told; it forgets this upload by itself after some days.");
    }
  }

  /** Whether it is gone. What is not there any more is; what is beyond cancelling, or cannot be asked for, is not. */
  async #delete(path) {
    try {
      await this.#services.api.call("DELETE", path);
      return true;
    } catch (error) {
      if (!(error instanceof UploadError)) throw error;
      return error.status === 404;
    }
  }

  // one batch

  pauseBatch(batch, by = "batch") {
    if (!["queued", "preparing", "uploading"].includes(batch.state)) return;
    batch.paused_by = by;
    this.#board.toBatch(batch, "paused");
    batch.cutter?.abort(new Cut("paused"));
    for (const task of batch.tasks) this.pause(task, "batch");
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
    await this.discard("batch", batch.batch_id);
  }

  // all

  pauseAll() {
    this.paused = true;
    for (const batch of this.#board.batches) this.pauseBatch(batch, "all");
    for (const task of this.#board.tasks) if (!task.batch) this.pause(task, "all");
  }

  resumeAll() {
    this.paused = false;
    for (const batch of this.#board.batches) if (batch.paused_by === "all") this.resumeBatch(batch);
    for (const task of this.#board.tasks) if (!task.batch && task.paused_by === "all") this.resume(task);
  }

  async cancelAll() {
    await Promise.all([
      ...this.#board.batches.filter((batch) => !batch.ended).map((batch) => this.cancelBatch(batch)),
      ...this.#board.tasks.filter((task) => !task.ended && !task.batch).map((task) => this.cancel(task)),
    ]);
  }

  retryAll() {
    for (const batch of this.#board.batches) this.retryBatch(batch);
    for (const task of this.#board.tasks) if (!task.batch && task.state === "failed" && task.error.retryable) this.retry(task);
  }

  close() {
    this.#closed = true;
    for (const one of [...this.#board.batches, ...this.#board.tasks]) {
      if (!one.ended) one.cutter?.abort(new Cut("closed"));
    }
  }

  /** Ends a session or batch at the server, and forgets it here; whether the server could be told. */
  async discard(kind, id) {
    const gone = await this.#delete(`/v1/${kind === "batch" ? "batches" : "uploads"}/${segment(id)}`);
    if (kind === "batch") await forget(this.#services, id);
    else await this.#services.records.delete(id);
    return gone;
  }
}
