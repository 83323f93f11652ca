// A heavylift API and an S3 in one object, behind the engine's transport: what the contract says, nothing more. It checks
// what S3 checks (digest, life of a signature, one object a key) and fails as it is told to.

import { createHash, randomUUID } from "node:crypto";

import { composite } from "../../../web/engine/checksums.js";
import { NetworkError } from "../../../web/engine/errors.js";
import { createUploader } from "../../../web/engine/index.js";
import { fingerprintOf } from "../../../web/engine/fingerprint.js";
import { planOf } from "../../../web/engine/plan.js";

export const MIB = 1024 * 1024;
const PACE = 100; // a second of the engine is ten milliseconds

export const clock = {
  now: () => (performance.now() * PACE) / 1000,
  random: Math.random,
  sleep: (seconds, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const timer = setTimeout(resolve, (seconds * 1000) / PACE);
      signal?.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
    }),
};

export const base64Sha256 = (bytes) => createHash("sha256").update(bytes).digest("base64");

/** A file whose bytes depend on its seed. */
export function fileOf(name, size, seed = 1) {
  const piece = new Uint8Array(65_536);
  for (let i = 0, x = seed; i < piece.length; i += 1) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    piece[i] = x >>> 24;
  }
  const pieces = [];
  for (let at = 0; at < size; at += piece.length) {
    pieces.push(new Uint8Array([at / 65_536, seed]), piece.subarray(0, Math.max(0, Math.min(piece.length, size - at) - 2)));
  }
  const blob = new Blob(pieces).slice(0, size);
  return new File([blob, new Uint8Array(size - blob.size)], name);
}

export class Shelf {
  records = new Map();
  async put(record) { this.records.set(record.id, structuredClone({ ...record, handle: null, handles: null })); }
  async get(id) { return structuredClone(this.records.get(id)); }
  async list(account) { return [...this.records.values()].filter((one) => one.account === account).map((one) => structuredClone(one)); }
  async delete(id) { this.records.delete(id); }
}

/** Web Locks, as far as the engine asks for them. */
export class Locks {
  #held = new Map();
  async request(name, options, work) {
    const before = this.#held.get(name);
    if (before && options.ifAvailable) return work(null);
    const mine = (before ?? Promise.resolve()).then(() => {
      if (options.signal?.aborted) throw options.signal.reason;
      return work({ name });
    });
    const settled = mine.then(() => {}, () => {});
    this.#held.set(name, settled);
    settled.then(() => { if (this.#held.get(name) === settled) this.#held.delete(name); });
    return mine;
  }
}

export class World {
  sessions = new Map(); // upload_id -> {file, plan, status, parts: Map(n -> {bytes, sha256}), object}
  batches = new Map();
  calls = []; // "POST /v1/uploads", "PUT 3", ...
  faults = []; // (kind, number, context) -> undefined | {status, code} | "network" | "hang"
  life_s = 900;
  verdict = () => ({ status: "completed" });
  assembling = 0; // so many 202 come first
  down = false;
  most_at_once = 0;
  #now_at_once = 0;
  #last = 0;

  counted(pattern) { return this.calls.filter((call) => call.match(pattern)).length; }

  id() { this.#last += 1; return `U${String(this.#last).padStart(4, "0")}`; }

  transport() {
    return {
      request: (method, url, headers, body, signal) => this.#wire(signal, () => this.#api(method, url, headers, body)),
      put: (url, headers, body, signal, onProgress) => this.#wire(signal, () => this.#put(url, headers, body, onProgress), true),
      post: (url, fields, body, signal, onProgress) => this.#wire(signal, () => this.#post(url, fields, body, onProgress), true),
    };
  }

  async #wire(signal, work, bytes = false) {
    signal?.throwIfAborted();
    let ended = null;
    if (bytes) this.most_at_once = Math.max(this.most_at_once, (this.#now_at_once += 1));
    try {
      await new Promise((resolve) => setTimeout(resolve, 1));
      if (this.down) throw new NetworkError("down");
      const cut = new Promise((_, reject) => {
        ended = () => reject(signal.reason);
        signal?.addEventListener("abort", ended);
      });
      cut.catch(() => {});
      return await Promise.race([work(), cut]);
    } finally {
      signal?.removeEventListener("abort", ended);
      if (bytes) this.#now_at_once -= 1;
    }
  }

  #fault(kind, number, context) {
    for (const fault of this.faults) {
      const found = fault(kind, number, context);
      if (found === "network") throw new NetworkError("cut");
      if (found === "hang") return new Promise(() => {});
      if (found) return reply(found.status, `<Error><Code>${found.code ?? ""}</Code><Message>m</Message></Error>`, found.headers);
    }
    return null;
  }

  // S3

  async #put(url, headers, body, onProgress) {
    const at = new URL(url);
    const number = Number(at.searchParams.get("partNumber") ?? 1);
    this.calls.push(`PUT ${number}`);
    onProgress(Math.floor(body.size / 2));
    const bad = await this.#fault("put", number, { url, headers, body });
    if (bad) return bad;
    if (clock.now() > Number(at.searchParams.get("ends"))) return refused(403, "AccessDenied");
    const session = this.sessions.get(at.pathname.slice(1));
    if (!session || session.status !== "uploading") return refused(404, "NoSuchUpload");
    const bytes = new Uint8Array(await body.arrayBuffer());
    if (base64Sha256(bytes) !== headers["x-amz-checksum-sha256"]) return refused(400, "BadDigest");
    if (session.mode === "single") {
      if (session.object) return refused(412, "PreconditionFailed");
      session.object = bytes;
      session.status = "staged";
    } else {
      session.parts.set(number, { bytes, sha256: headers["x-amz-checksum-sha256"] });
    }
    onProgress(body.size);
    return reply(200, "", { "x-amz-checksum-sha256": headers["x-amz-checksum-sha256"] });
  }

  async #post(url, fields, body, onProgress) {
    const [batch_id, n] = fields.key.split("/");
    this.calls.push(`FORM ${n}`);
    const bad = await this.#fault("form", Number(n), { url, fields, body });
    if (bad) return bad;
    if (clock.now() > Number(fields.policy)) return refused(403, "AccessDenied");
    const bytes = new Uint8Array(await body.arrayBuffer());
    if (base64Sha256(bytes) !== fields["x-amz-checksum-sha256"]) return refused(400, "BadDigest");
    const batch = this.batches.get(batch_id);
    batch.objects.set(Number(n), bytes);
    onProgress(body.size);
    return reply(201, "");
  }

  // the API

  async #api(method, url, headers, text) {
    const { pathname: path, searchParams: query } = new URL(url, "http://api.test");
    this.calls.push(`${method} ${path}`);
    const body = text ? JSON.parse(text) : {};
    const bad = await this.#fault("api", 0, { method, path, query, body, headers });
    if (bad) return json(bad.status, { code: /<Code>(.*)<\/Code>/.exec(bad.text)[1] || undefined, message: "told to" }, bad.given);
    const [, , kind, id, what, page] = path.split("/");
    if (kind === "uploads") return this.#uploads(method, id, what, query, body);
    if (kind === "batches") return this.#batch(method, id, what, page, query, body);
    if (kind === "files" && method === "GET") return this.#file(id);
    return json(404, { message: "Not Found" });
  }

  #signed(id, number, digest) {
    const at = `https://s3.test/${id}?partNumber=${number}&X-Amz-Expires=${this.life_s}&ends=${clock.now() + this.life_s}&k=${randomUUID()}`;
    return { url: at, headers: { "x-amz-checksum-sha256": digest }, expires_at: "2030-01-01T00:00:00Z" };
  }

  #uploads(method, id, what, query, body) {
    if (method === "POST" && !id) {
      const uploads = body.files.map((file) => {
        if (file.name.endsWith(".exe")) return { client_id: file.client_id, problem: { code: "type_not_allowed", detail: "No programs." } };
        const upload_id = file.batch_id ? `${file.batch_id}-${String(file.n).padStart(6, "0")}` : this.id();
        const plan = planOf(file.size, body.max_part_size);
        this.sessions.set(upload_id, { upload_id, file, ...plan, status: "uploading", parts: new Map(), object: null });
        const put = plan.mode === "single" && file.sha256 ? this.#signed(upload_id, 1, file.sha256) : undefined;
        return { upload_id, client_id: file.client_id, ...plan, put };
      });
      return json(201, { uploads });
    }
    if (method === "GET" && !id) {
      const items = [...this.sessions.values()].filter((one) => one.file.fingerprint === query.get("fingerprint") && one.status === query.get("status"));
      return json(200, { items: items.map(({ upload_id }) => ({ upload_id })), next_token: null });
    }
    const session = this.sessions.get(id);
    if (!session) return json(404, { code: "not_found", detail: "No such upload." });
    if (method === "GET") return json(200, this.#shown(session));
    if (method === "DELETE") { session.status = "cancelled"; session.parts.clear(); return json(200, {}); }
    if (what === "retry") { session.status = "staged"; session.retried = true; return json(200, {}); }
    if (session.status !== "uploading" && what !== "complete") return json(409, { code: "state_conflict", detail: "Not open." });
    if (what === "parts") {
      return json(200, { parts: body.parts.map(({ part_number, sha256 }) => ({ part_number, ...this.#signed(id, part_number, sha256) })) });
    }
    if (this.assembling > 0) { this.assembling -= 1; return json(202, { status: "assembling" }, { "retry-after": "1" }); }
    const missing = Array.from({ length: session.part_count }, (_, i) => i + 1).filter((n) => !session.parts.has(n));
    if (missing.length) return json(409, { code: "parts_missing", missing: missing.map((n) => [n, n]) });
    const parts = [...session.parts].sort(([a], [b]) => a - b).map(([, part]) => part);
    session.object = Buffer.concat(parts.map((part) => part.bytes));
    session.status = "staged";
    return json(200, { status: "staged", checksums: { sha256_composite: composite(parts.map((part) => part.sha256)) } });
  }

  #shown({ upload_id, file, mode, part_size, part_count, status, parts }) {
    const numbers = [...parts.keys()].sort((a, b) => a - b);
    const listed = numbers.map((n) => ({ part_number: n, size: parts.get(n).bytes.length, sha256: parts.get(n).sha256 }));
    return { upload_id, size: file.size, mode, part_size, part_count, status, received: numbers.map((n) => [n, n]), parts: listed };
  }

  #file(id) {
    const session = this.sessions.get(id);
    const [batch_id, n] = id.split("-");
    const bytes = session?.object ?? this.batches.get(batch_id)?.objects.get(Number(n));
    if (!session && !bytes) return json(404, { code: "not_found" });
    if (!bytes) return json(200, { file_id: id, status: session.status, final: session.status === "cancelled" });
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    return json(200, { file_id: id, final: true, checksums: { sha256, sha256_proven: true }, ...this.verdict(session) });
  }

  #policy(batch_id) {
    const ends = clock.now() + this.life_s;
    const fields = { key: `${batch_id}/\${filename}`, policy: String(ends), "x-amz-date": "20300101T000000Z" };
    const expires_at = new Date(Date.UTC(2030, 0, 1) + this.life_s * 1000).toISOString();
    return { url: "https://s3.test/", fields, expires_at };
  }

  #batch(method, id, what, page, query, body) {
    if (method === "POST" && !id) {
      const batch_id = this.id();
      this.batches.set(batch_id, { batch_id, said: body, entries: new Map(), objects: new Map(), status: "open", pages: [] });
      return json(201, { batch_id, status: "open", policy: this.#policy(batch_id) });
    }
    const batch = this.batches.get(id);
    if (!batch) return json(404, { code: "not_found" });
    const members = [...batch.entries.values()].sort((a, b) => a.n - b.n);
    const bytesOf = (n) => batch.objects.get(n) ?? this.sessions.get(`${id}-${String(n).padStart(6, "0")}`)?.object;
    if (method === "PUT" && what === "manifest") {
      for (const entry of body.entries) batch.entries.set(entry.n, entry);
      batch.pages.push(Number(page));
      return json(200, { listed: batch.entries.size });
    }
    if (method === "DELETE") { batch.status = "cancelled"; return json(200, {}); }
    if (batch.status !== "open" && what !== "files" && method !== "GET") return json(409, { code: "state_conflict", detail: "closed" });
    if (what === "policy") return json(200, this.#policy(id));
    if (what === "complete") { batch.status = "completed"; return json(200, { batch_id: id, status: "processing" }); }
    if (what === "files") {
      const from = Number(query.get("next_token") ?? 0);
      const items = members.slice(from, from + Number(query.get("limit"))).map(({ n, name, relative_path, size }) => {
        const there = bytesOf(n) !== undefined;
        const verdict = !there ? (batch.status === "open" ? null : "failed") : (this.verdict({ file: { name } }).status ?? null);
        return { n, name, relative_path, size, status: there ? "completed" : "created", verdict, ...(there ? this.verdict({ file: { name } }) : {}) };
      });
      const to = from + items.length;
      return json(200, { items, next_token: to < members.length ? String(to) : null });
    }
    const final = batch.status !== "open";
    return json(200, { batch_id: id, status: batch.status, final, total: batch.said.total, listed: batch.entries.size, message: "told" });
  }
}

function reply(status, text, given = {}) {
  const headers = new Map(Object.entries(given ?? {}));
  return { status, text, headers: { get: (name) => headers.get(name) ?? null }, given };
}

const json = (status, body, headers) => reply(status, JSON.stringify(body), headers);
const refused = (status, code) => reply(status, `<?xml version="1.0"?><Error><Code>${code}</Code><Message>no</Message></Error>`);

export class Network extends EventTarget {
  onLine = true;
  set(onLine) { this.onLine = onLine; this.dispatchEvent(new Event(onLine ? "online" : "offline")); }
}

export const nodeHasher = () => ({
  width: 2,
  sha256: async (body, signal) => { const bytes = await body.arrayBuffer(); signal?.throwIfAborted(); return base64Sha256(new Uint8Array(bytes)); },
  fingerprint: (body) => fingerprintOf(body),
  close() {},
});

/** An uploader in a world; parts of 5 MiB. */
export function uploaderIn(world, options = {}) {
  return createUploader({
    api: "http://api.test",
    token: "t",
    transport: world.transport(),
    storage: new Shelf(),
    locks: new Locks(),
    hasher: nodeHasher(),
    network: new Network(),
    max_part_size: 5 * MIB,
    clock,
    ...options,
  });
}

export const bytesOf = async (file) => new Uint8Array(await file.arrayBuffer());
export const until = async (found, words = "it never came to that") => {
  const deadline = performance.now() + 30_000;
  while (!found()) {
    if (performance.now() > deadline) throw new Error(words);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
};
