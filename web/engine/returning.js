// What earlier pages of this browser left unfinished, and how it goes on.

import { forget, recall } from "./batches.js";
import { UploadError } from "./errors.js";
import { memberId } from "./plan.js";
import { collect } from "./sources.js";

export class Returning {
  #services;
  #control;
  #intake;

  /** `intake`: {take(collected, options, expected), batch(about), enlist(found, batch), tell(added)} of the uploader. */
  constructor(services, control, intake) {
    this.#services = services;
    this.#control = control;
    this.#intake = intake;
  }

  async list() {
    const { records, account, board } = this.#services;
    const busy = new Set([...board.tasks.map((task) => task.upload_id), ...board.batches.map((batch) => batch.batch_id)]);
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
        resume: (again) => this.#resume(id, again),
        discard: async () => {
          await this.#control.discard(kind, id);
        },
      }));
  }

  async #resume(id, again) {
    const { records, hasher } = this.#services;
    const collecting = again === undefined ? null : collect(again);
    const record = await records.get(id);
    if (!record) throw new UploadError("no_session", "Nothing is known of that upload any more. Add the file anew.");
    const collected = collecting ? await collecting : await collect(await permitted(record.handles ?? [record.handle]));
    if (record.kind === "batch") {
      const { found, handles, folder } = collected;
      return this.goOn(id, { found, handles: handles.length ? handles : record.handles, name: record.name ?? folder, declared: record.declared, kept: true });
    }
    const [one] = collected.found;
    if (collected.found.length !== 1 || one.file.size !== record.size) throw wrongFile(record);
    if ((await hasher.fingerprint(one.file)) !== record.fingerprint) throw wrongFile(record);
    const { name, relative_path, handle, declared } = record;
    const found = [{ ...one, name, relative_path, handle: one.handle ?? handle }];
    return this.#intake.take({ ...collected, found }, { ...declared, batch: false }, id);
  }

  /** A batch that is open already, with its files chosen again. `kept`: this browser has begun it. */
  async goOn(batch_id, { found, handles, name, declared, kept = false }) {
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
    const batch = this.#intake.batch({ name: name ?? batch_id, declared, handles });
    Object.assign(batch, { batch_id, known, listed: !kept, stored_records: memory?.records ?? 0, began_at: new Date().toISOString() });
    batch.noted_at = this.#services.clock.now();
    const tasks = await this.#intake.enlist(again, batch, declared);
    for (const task of tasks) task.file_id = memberId(batch_id, task.n);
    return this.#intake.tell(tasks, batch, []);
  }

  async #announced(batch_id) {
    const members = await this.#services.batches.members(batch_id);
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
