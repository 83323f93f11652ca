// The upload engine: createUploader() and what it is made of. Its shape is in index.d.ts, its use in docs/browser.md.

import { Announcer } from "./announcing.js";
import { Api } from "./api.js";
import { browserClock } from "./backoff.js";
import { Batches } from "./batches.js";
import { Batch, Board, Task } from "./board.js";
import { breather } from "./breath.js";
import { Control } from "./control.js";
import { UploadError } from "./errors.js";
import { fingerprintOf } from "./fingerprint.js";
import { workerHasher } from "./hasher.js";
import { MOST, Pace } from "./pace.js";
import { MIB, planOf } from "./plan.js";
import { Presence } from "./presence.js";
import { Returning } from "./returning.js";
import { Sender } from "./sending.js";
import { Sessions } from "./sessions.js";
import { collect } from "./sources.js";
import { browserStorage, forgiving } from "./storage.js";
import { browserTransport } from "./transport.js";

export { UploadError, fingerprintOf, planOf };

const BATCH_ABOVE_FILES = 20; // so many files at once are better told of as one
const SAFARI_PART_BYTES = 32 * MIB; // Safari and phones keep more of a body in memory than they send
const PATIENCE_S = 900; // as the Python client: a router that starts anew, a deployment that goes wrong

/** @param {import("./index.d.ts").UploaderOptions} options @returns {import("./index.d.ts").Uploader} */
export function createUploader(options) {
  return new Uploader(options);
}

class Uploader extends EventTarget {
  #board;
  #presence;
  #control;
  #returning;
  #hasher;
  #clock;
  #last = 0;

  constructor({
    api,
    token,
    account,
    follow = true,
    max_concurrency = MOST,
    max_part_size = partSizeMax(),
    patience_s = PATIENCE_S,
    base = new URL(".", import.meta.url),
    transport = browserTransport(),
    storage = browserStorage(),
    locks = globalThis.navigator?.locks ?? null,
    hasher = workerHasher(base),
    clock = browserClock,
    network = browserNetwork(),
  }) {
    super();
    this.#clock = clock;
    this.#hasher = hasher;
    const presence = (this.#presence = new Presence(clock, network));
    presence.addEventListener("change", () => this.#tell("connection", { online: presence.online }));
    const board = (this.#board = new Board(this, clock));
    const calls = new Api({ api, token, transport, clock, presence, patience_s });
    let owner = null;
    const whose = async () => (owner ??= `${api || globalThis.location?.origin || ""} ${account ?? ownerOf(await calls.bearer())}`);
    const services = {
      api: calls,
      announcer: new Announcer({ api: calls, clock, max_part_size }),
      sender: new Sender({ transport, pace: new Pace(max_concurrency, clock), clock, presence, patience_s, board }),
      records: forgiving(storage),
      account: whose,
      ...{ board, clock, presence, hasher, locks, follow },
    };
    services.sessions = new Sessions(services);
    services.batches = new Batches(services);
    this.#control = new Control(services);
    this.#returning = new Returning(services, this.#control, {
      take: (collected, options, expected) => this.#take(collected, options, expected),
      batch: (about) => this.#batch(about),
      enlist: (found, batch, declared) => this.#enlist(found, batch, declared, null),
      tell: (tasks, batch, problems) => this.#begin(tasks, batch, problems),
    });
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
    return this.#control.paused;
  }

  async add(what, options = {}) {
    const collecting = collect(what); // in this very turn: a drop is empty afterwards
    return this.#take(await collecting, options, null);
  }

  pause() {
    this.#control.pauseAll();
  }

  resume() {
    this.#control.resumeAll();
  }

  cancel() {
    return this.#control.cancelAll();
  }

  retry() {
    this.#control.retryAll();
  }

  clear() {
    this.#board.clear();
    this.#tell("change", { files: [], batches: [] });
  }

  close() {
    this.#control.close();
    this.#presence.close();
    this.#hasher.close();
  }

  resumable() {
    return this.#returning.list();
  }

  async #take({ found, folder, handles, problems }, { batch: wanted = "auto", name, ...declared }, expected) {
    if (this.#control.closed) throw new UploadError("closed", "This uploader was closed.");
    if (!found.length && !problems.length) throw new UploadError("nothing_to_upload", "There are no files in it.");
    if (typeof wanted === "string" && wanted !== "auto") {
      return this.#returning.goOn(wanted, { found, handles, name: name ?? folder, declared });
    }
    const together = wanted === true || (wanted === "auto" && (folder !== null || found.length > BATCH_ABOVE_FILES));
    const batch = together && found.length ? this.#batch({ name: name ?? folder ?? `${found.length} files`, declared, handles }) : null;
    return this.#begin(await this.#enlist(found, batch, declared, expected), batch, problems);
  }

  #batch({ name, declared, handles }) {
    return new Batch({ id: this.#next("b"), name, declared, handles: handles ?? [], control: this.#control, clock: this.#clock });
  }

  /** Tasks for what was found; thousands of them leave the page its turns. */
  async #enlist(found, batch, declared, expected) {
    const breathe = breather();
    const tasks = [];
    if (batch) this.#board.addBatch(batch);
    for (const one of found) {
      const n = batch ? (one.n ?? tasks.length) : null;
      const task = new Task({ id: this.#next("f"), found: one, declared, batch, n, control: this.#control });
      task.expected = expected;
      this.#board.add(task);
      tasks.push(task);
      await breathe();
    }
    return tasks;
  }

  #begin(tasks, batch, problems) {
    const added = { files: tasks.map((task) => task.view), batch: batch?.view ?? null, problems };
    this.#tell("added", added);
    if (batch) this.#control.beginBatch(batch);
    else for (const task of tasks) this.#control.begin(task);
    return added;
  }

  #next(kind) {
    this.#last += 1;
    return `${kind}${this.#last}`;
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
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

/** `window` has the events, `navigator` the state. */
function browserNetwork() {
  const network = new EventTarget();
  Object.defineProperty(network, "onLine", { get: () => globalThis.navigator?.onLine !== false });
  for (const name of ["online", "offline"]) globalThis.addEventListener?.(name, () => network.dispatchEvent(new Event(name)));
  return network;
}
