// One file: sent, failed, paused, found again. The world is world.mjs; nothing goes over a network.

import assert from "node:assert/strict";
import { test } from "node:test";

import { MIB, Network, Locks, Shelf, World, base64Sha256, bytesOf, fileOf, nodeHasher, until, uploaderIn } from "./world.mjs";

const LARGE = 17 * MIB + 5;

async function sent(world, file, options, said) {
  const uploader = uploaderIn(world, options);
  const { files } = await uploader.add(file, said);
  await files[0].finished;
  uploader.close();
  return files[0];
}

async function stored(world, one, file) {
  assert.equal(one.state, "done", one.error?.message);
  assert.equal(Buffer.compare(Buffer.from(world.sessions.get(one.upload_id).object), Buffer.from(await bytesOf(file))), 0);
}

test("a small file is one signed PUT, announced with its digest", async () => {
  const world = new World();
  const file = fileOf("a.bin", 1000);
  const one = await sent(world, file, {}, { kind: "other", metadata: { a: 1 } });
  await stored(world, one, file);
  const said = world.sessions.get(one.upload_id).file;
  assert.deepEqual([said.sha256, said.kind, said.metadata, said.checksum], [base64Sha256(await bytesOf(file)), "other", { a: 1 }, "sha256"]);
  assert.deepEqual(world.calls, ["POST /v1/uploads", "PUT 1", `GET /v1/files/${one.upload_id}`]);
  assert.equal(one.progress.ratio, 1);
});

test("an empty file is a file", async () => {
  const world = new World();
  const one = await sent(world, fileOf("empty", 0));
  assert.equal(one.state, "done");
  assert.equal(world.sessions.get(one.upload_id).object.length, 0);
});

test("a large file goes in parts, signed in batches, each with its digest", async () => {
  const world = new World();
  const file = fileOf("b.bin", LARGE);
  const one = await sent(world, file);
  await stored(world, one, file);
  assert.equal(world.counted(/^PUT/), 4);
  assert.ok(world.counted(/\/parts$/) <= 4);
  assert.ok(world.most_at_once > 1, "parts go side by side");
  assert.match(world.sessions.get(one.upload_id).file.fingerprint, /^v1:[0-9a-f]{64}$/);
});

test("what the API will not take is the file's failure, in its words", async () => {
  const world = new World();
  const one = await sent(world, fileOf("x.exe", 10));
  assert.deepEqual([one.state, one.error], ["failed", { code: "type_not_allowed", message: "No programs.", retryable: false }]);
});

test("twenty files at once share a call; the verdicts are asked for by a few at a time", async () => {
  const world = new World();
  const uploader = uploaderIn(world);
  const { files, batch } = await uploader.add(Array.from({ length: 20 }, (_, i) => fileOf(`${i}`, 100 + i, i)));
  assert.equal(batch, null);
  await Promise.all(files.map((file) => file.finished));
  assert.ok(files.every((file) => file.state === "done"));
  assert.ok(world.counted(/^POST \/v1\/uploads$/) <= 3);
  uploader.close();
});

for (const [code, status, tries] of [["SlowDown", 503, 3], ["InternalError", 500, 2], ["RequestTimeout", 400, 2], ["", 502, 2], ["ConditionalRequestConflict", 409, 2]]) {
  test(`${status} ${code || "without a code"} is tried again with the same URL`, async () => {
    const world = new World();
    const urls = new Set();
    let left = tries;
    world.faults.push((kind, n, { url }) => {
      if (kind !== "put" || n !== 2) return undefined;
      urls.add(url);
      left -= 1;
      return left >= 0 ? { status, code } : undefined;
    });
    const file = fileOf("c.bin", LARGE);
    await stored(world, await sent(world, file), file);
    assert.equal(urls.size, 1);
    assert.equal(world.counted(/^PUT 2$/), tries + 1);
  });
}

for (const [code, status] of [["ExpiredToken", 400], ["AccessDenied", 403], ["RequestTimeTooSkewed", 403], ["SignatureDoesNotMatch", 403]]) {
  test(`${status} ${code} is answered with a new signature`, async () => {
    const world = new World();
    const urls = [];
    world.faults.push((kind, n, { url }) => {
      if (kind === "put" && n === 1) urls.push(url);
      return kind === "put" && n === 1 && urls.length === 1 ? { status, code } : undefined;
    });
    const file = fileOf("d.bin", LARGE);
    await stored(world, await sent(world, file), file);
    assert.equal(new Set(urls).size, 2);
  });
}

test("a signature that is wrong twice, and access that stays denied, are failures", async () => {
  for (const [code, most] of [["SignatureDoesNotMatch", 2], ["AccessDenied", 9]]) {
    const world = new World();
    world.faults.push((kind) => (kind === "put" ? { status: 403, code } : undefined));
    const one = await sent(world, fileOf("e.bin", 100));
    assert.deepEqual([one.state, one.error.code, one.error.retryable], ["failed", code, true]);
    assert.equal(world.counted(/^PUT/), most);
    assert.doesNotMatch(one.error.message, /https?:/);
  }
});

test("BadDigest reads and hashes again, three times", async () => {
  const world = new World();
  let read = 0;
  const hasher = nodeHasher();
  const counted = { ...hasher, sha256: (...given) => { read += 1; return hasher.sha256(...given); } };
  world.faults.push((kind) => (kind === "put" ? { status: 400, code: "BadDigest" } : undefined));
  const one = await sent(world, fileOf("f.bin", 100), { hasher: counted });
  assert.equal(one.error.code, "BadDigest");
  assert.deepEqual([read, world.counted(/^PUT/)], [4, 4]);
});

test("a store that echoes another digest is not believed", async () => {
  const world = new World();
  let lies = 1;
  world.faults.push((kind) => (kind === "put" && lies-- > 0 ? { status: 200, headers: { "x-amz-checksum-sha256": "AAAA" } } : undefined));
  const file = fileOf("g.bin", 50);
  await stored(world, await sent(world, file), file);
  assert.equal(world.counted(/^PUT/), 2);
});

test("412: an earlier try had arrived, so the file is there", async () => {
  const world = new World();
  let first = true;
  const file = fileOf("h.bin", 100);
  const bytes = await bytesOf(file);
  world.faults.push((kind) => {
    if (kind !== "put" || !first) return undefined;
    first = false;
    [...world.sessions.values()][0].object = bytes; // it arrived, but its answer did not
    return "network";
  });
  await stored(world, await sent(world, file), file);
});

test("NoSuchUpload: the API is asked; a session that somebody completed is done, a lost one starts again", async () => {
  const world = new World();
  let lost = null;
  world.faults.push((kind, n) => {
    if (kind !== "put" || n !== 3 || lost) return undefined;
    lost = [...world.sessions.values()][0];
    lost.parts.clear();
    return { status: 404, code: "NoSuchUpload" };
  });
  world.faults.push((kind, _, { method, path }) => {
    if (kind === "api" && lost && method === "GET" && path.endsWith(lost.upload_id)) lost.status = "uploading";
    return undefined;
  });
  world.faults.push((kind, n, { url }) => (kind === "put" && lost && url.includes(lost.upload_id) ? { status: 404, code: "NoSuchUpload" } : undefined));
  const file = fileOf("i.bin", LARGE);
  const one = await sent(world, file);
  lost.status = "uploading";
  await stored(world, one, file);
  assert.notEqual(one.upload_id, lost.upload_id);
});

test("URLs that live two seconds are signed anew, before they are used where that can be known", async () => {
  const world = new World();
  world.life_s = 2;
  const file = fileOf("j.bin", 40 * MIB);
  await stored(world, await sent(world, file), file);
});

test("parts that complete misses are sent again", async () => {
  const world = new World();
  let dropped = false;
  world.faults.push((kind, _, { path }) => {
    if (kind !== "api" || !path.endsWith("/complete") || dropped) return undefined;
    dropped = true;
    [...world.sessions.values()][0].parts.delete(2);
    return undefined;
  });
  const file = fileOf("k.bin", LARGE);
  await stored(world, await sent(world, file), file);
  assert.equal(world.counted(/^PUT 2$/), 2);
});

test("202 assembling is asked again until it is joined", async () => {
  const world = new World();
  world.assembling = 3;
  const file = fileOf("l.bin", LARGE);
  await stored(world, await sent(world, file), file);
  assert.equal(world.counted(/\/complete$/), 4);
});

test("a finished object of other bytes is a failure", async () => {
  const world = new World();
  world.verdict = () => ({ status: "completed", checksums: { sha256: "00", sha256_proven: true } });
  const one = await sent(world, fileOf("m.bin", 10));
  assert.equal(one.error.code, "checksum_mismatch");
});

test("a verdict against the file is told in its words and not retried; a failure of the server is retried there", async () => {
  const world = new World();
  world.verdict = () => ({ status: "rejected", failure: { code: "bad_tiff", message: "No strips.", retryable: false } });
  const one = await sent(world, fileOf("n.tif", 10));
  assert.deepEqual(one.error, { code: "bad_tiff", message: "No strips.", retryable: false });

  world.verdict = (session) => (session.retried ? { status: "completed" } : { status: "failed", failure: { code: "internal", message: "Ours.", retryable: true } });
  const uploader = uploaderIn(world);
  const { files } = await uploader.add(fileOf("o.tif", 10));
  await files[0].finished;
  assert.deepEqual([files[0].state, files[0].error.retryable], ["failed", true]);
  files[0].retry();
  await files[0].finished;
  assert.equal(files[0].state, "done");
  assert.equal(world.counted(/\/retry$/), 1);
  uploader.close();
});

test("pause cuts what is on the wire and keeps what is stored; resume sends the rest", async () => {
  const world = new World();
  world.faults.push((kind, n) => (kind === "put" && n >= 3 && !world.free ? "hang" : undefined));
  const uploader = uploaderIn(world);
  const file = fileOf("p.bin", LARGE);
  const { files: [one] } = await uploader.add(file);
  await until(() => world.counted(/^PUT [34]/) === 2);
  one.pause();
  assert.equal(one.state, "paused");
  const shown = one.progress.bytes;
  assert.ok(shown >= 10 * MIB);
  world.free = true;
  one.resume();
  await one.finished;
  await stored(world, one, file);
  assert.deepEqual([world.counted(/^PUT 1$/), world.counted(/^PUT 2$/)], [1, 1]);
  uploader.close();
});

test("cancel ends the session, in the middle and while it is being announced", async () => {
  const world = new World();
  world.faults.push((kind) => (kind === "put" ? "hang" : undefined));
  const uploader = uploaderIn(world);
  const { files: [one] } = await uploader.add(fileOf("q.bin", LARGE));
  await until(() => world.counted(/^PUT/) > 0);
  await one.cancel();
  assert.equal(one.state, "cancelled");
  assert.equal((await one.finished).state, "cancelled");
  const { files: [two] } = await uploader.add(fileOf("r.bin", 10));
  await until(() => two.state === "preparing");
  await two.cancel();
  assert.ok([...world.sessions.values()].every((session) => session.status === "cancelled"));
  assert.deepEqual(await uploader.resumable(), []);
  uploader.close();
});

test("after a reload the same file goes on: only missing parts are sent, what is there is compared first", async () => {
  const world = new World();
  const storage = new Shelf();
  const file = fileOf("s.bin", LARGE);
  world.faults.push((kind, n) => (kind === "put" && n >= 3 && !world.free ? "hang" : undefined));
  const before = uploaderIn(world, { storage });
  const { files: [cut] } = await before.add(file);
  await until(() => cut.progress.bytes >= 10 * MIB && world.counted(/^PUT [34]/) === 2);
  before.close();
  world.free = true;
  world.calls.length = 0;
  const after = uploaderIn(world, { storage });
  const [kept] = await after.resumable();
  assert.deepEqual([kept.kind, kept.id, kept.name, kept.has_handle], ["file", cut.upload_id, "s.bin", false]);
  const { files: [one] } = await after.add(file);
  await one.finished;
  await stored(world, one, file);
  assert.deepEqual([one.upload_id, one.bytes_resumed], [cut.upload_id, 10 * MIB]);
  assert.deepEqual(world.calls.filter((call) => call.startsWith("PUT")).sort(), ["PUT 3", "PUT 4"]);
  assert.deepEqual(await after.resumable(), []);
  after.close();
});

test("a wrong file for a resume is noticed: by its size, by its samples, by the bytes of a part", async () => {
  const world = new World();
  const storage = new Shelf();
  const file = fileOf("t.bin", LARGE, 1);
  world.faults.push((kind, n) => (kind === "put" && n >= 2 && !world.free ? "hang" : undefined));
  const before = uploaderIn(world, { storage });
  const { files: [cut] } = await before.add(file);
  await until(() => cut.progress.bytes >= 5 * MIB && world.counted(/^PUT [234]/) === 3);
  before.close();
  world.free = true;
  const bytes = Buffer.from(await bytesOf(file));
  bytes[2 * MIB + 7] ^= 1; // between two samples
  const sly = new File([bytes], "t.bin");
  const after = uploaderIn(world, { storage });
  const [kept] = await after.resumable();
  await assert.rejects(kept.resume(fileOf("t.bin", LARGE - 1)), { code: "wrong_file" });
  await assert.rejects(kept.resume(fileOf("t.bin", LARGE, 2)), { code: "wrong_file" });
  const { files: [one] } = await kept.resume(sly);
  await one.finished;
  assert.deepEqual([one.state, one.error.code], ["failed", "wrong_file"]);

  const { files: [other] } = await after.add(sly); // added anew it is a file of its own
  await other.finished;
  await stored(world, other, sly);
  assert.notEqual(other.upload_id, cut.upload_id);

  const [again] = await after.resumable();
  const { files: [right] } = await again.resume(file);
  await right.finished;
  await stored(world, right, file);
  assert.equal(right.upload_id, cut.upload_id);
  after.close();
});

test("two tabs with the same file send one after the other, and do not mix", async () => {
  const world = new World();
  const locks = new Locks();
  const file = fileOf("u.bin", LARGE);
  const [a, b] = [uploaderIn(world, { locks }), uploaderIn(world, { locks })];
  const [one, two] = (await Promise.all([a.add(file), b.add(file)])).map(({ files }) => files[0]);
  await until(() => one.notice || two.notice);
  await Promise.all([one.finished, two.finished]);
  await stored(world, one, file);
  await stored(world, two, file);
  a.close();
  b.close();
});

test("a tab that waits goes on where the other one stopped", async () => {
  const world = new World();
  const locks = new Locks();
  const file = fileOf("v.bin", LARGE);
  world.faults.push((kind, n) => (kind === "put" && n >= 3 && !world.free ? "hang" : undefined));
  const [a, b] = [uploaderIn(world, { locks }), uploaderIn(world, { locks })];
  const { files: [one] } = await a.add(file);
  await until(() => world.counted(/^PUT [34]/) === 2);
  const { files: [two] } = await b.add(file);
  await until(() => two.notice);
  world.free = true;
  a.close();
  await two.finished;
  await stored(world, two, file);
  assert.equal(two.upload_id, one.upload_id);
  assert.deepEqual([world.counted(/^PUT 1$/), world.counted(/^PUT 2$/)], [1, 1]);
  b.close();
});

test("the world goes away and comes back: nothing is lost, nobody has to click", async () => {
  const world = new World();
  const network = new Network();
  const uploader = uploaderIn(world, { network, patience_s: 40 });
  const told = [];
  uploader.addEventListener("connection", ({ detail }) => told.push(detail.online));
  const file = fileOf("w.bin", LARGE);
  const { files: [one] } = await uploader.add(file);
  await until(() => world.counted(/^PUT/) > 0);
  world.down = true;
  network.set(false);
  await new Promise((resolve) => setTimeout(resolve, 800)); // twice its patience, but offline
  assert.equal(one.state, "uploading");
  world.down = false;
  network.set(true);
  await one.finished;
  await stored(world, one, file);
  assert.deepEqual(told, [false, true]);
  uploader.close();
});

test("a browser that believes to be offline reaches a server on the same machine", async () => {
  const network = new Network();
  network.onLine = false;
  const world = new World();
  const file = fileOf("x.bin", 100);
  await stored(world, await sent(world, file, { network }), file);
});

test("patience ends where the browser is online: the file has failed and can be retried", async () => {
  const world = new World();
  world.faults.push((kind) => (kind === "put" && !world.free ? "network" : undefined));
  const uploader = uploaderIn(world, { patience_s: 2 });
  const file = fileOf("y.bin", 100);
  const { files: [one] } = await uploader.add(file);
  await one.finished;
  assert.deepEqual([one.state, one.error.code, one.error.retryable], ["failed", "network", true]);
  world.free = true;
  uploader.retry();
  await one.finished;
  await stored(world, one, file);
  uploader.close();
});

test("tokens are renewed after a 401, once a call", async () => {
  const world = new World();
  const asked = [];
  let valid = "old";
  const token = (again) => { asked.push(again); if (again) valid = "new"; return valid; };
  world.faults.push((kind, _, { headers }) => (kind === "api" && headers.authorization === "Bearer old" ? { status: 401 } : undefined));
  const file = fileOf("z.bin", 100);
  await stored(world, await sent(world, file, { token }), file);
  assert.equal(asked.filter(Boolean).length, 1);

  const denied = new World();
  denied.faults.push((kind) => (kind === "api" ? { status: 401 } : undefined));
  const one = await sent(denied, fileOf("z2.bin", 100), { token: () => "bad" });
  assert.deepEqual([one.error.code, denied.calls.length], ["unauthorized", 2]);
});

test("where no token is to be had the file fails in words, and goes on after a sign-in", async () => {
  const world = new World();
  const uploader = uploaderIn(world, { token: () => { if (!world.free) throw new Error("signed out"); return "t"; }, account: "a" });
  const file = fileOf("signed-out.bin", 100);
  const { files: [one] } = await uploader.add(file);
  await one.finished;
  assert.deepEqual([one.error.code, one.error.retryable], ["unauthorized", true]);
  assert.match(one.error.message, /signed out/);
  world.free = true;
  one.retry();
  await one.finished;
  await stored(world, one, file);
  uploader.close();
});

test("idle is told once, when the last file has ended", async () => {
  const world = new World();
  const uploader = uploaderIn(world);
  let idle = 0;
  uploader.addEventListener("idle", () => { idle += 1; });
  const { files } = await uploader.add([fileOf("1", 10), fileOf("2", 20)]);
  await Promise.all(files.map((one) => one.finished));
  await until(() => idle === 1);
  uploader.clear();
  await new Promise((resolve) => setTimeout(resolve, 150));
  assert.equal(idle, 1);
  uploader.close();
});

test("a file that changed while it was sent is told so", async () => {
  const world = new World();
  world.faults.push((kind) => (kind === "put" ? "network" : undefined));
  class Changed extends Blob {
    get size() { return 100; }
    slice() { return { arrayBuffer: async () => { throw new DOMException("changed", "NotReadableError"); } }; }
  }
  const one = await sent(world, { [Symbol.iterator]: function* () { yield { file: new Changed(["a".repeat(100)]), name: "changed" }; } });
  assert.deepEqual([one.state, one.error.code, one.error.retryable], ["failed", "source_changed", false]);
});

test("what is shown never goes back and ends at the size, however often parts fail", async () => {
  const world = new World();
  let calls = 0;
  world.faults.push((kind) => (kind === "put" && (calls += 1) % 3 ? { status: 503, code: "SlowDown" } : undefined));
  const uploader = uploaderIn(world);
  const seen = [];
  uploader.addEventListener("change", () => seen.push(uploader.progress.bytes));
  const { files: [one] } = await uploader.add(fileOf("prog.bin", LARGE));
  await one.finished;
  await until(() => seen.at(-1) === LARGE);
  assert.deepEqual(seen, [...seen].sort((a, b) => a - b));
  uploader.close();
});

test("what is paused as a whole stays paused when more is added, and goes on together", async () => {
  const world = new World();
  const uploader = uploaderIn(world);
  uploader.pause();
  const { files } = await uploader.add([fileOf("1", 10), fileOf("2", LARGE)]);
  assert.deepEqual(files.map((file) => file.state), ["paused", "paused"]);
  assert.equal(world.calls.length, 0);
  const idle = new Promise((resolve) => uploader.addEventListener("idle", resolve, { once: true }));
  uploader.resume();
  await Promise.all(files.map((file) => file.finished));
  await idle;
  assert.deepEqual(files.map((file) => file.state), ["done", "done"]);
  assert.deepEqual([uploader.progress.files, uploader.progress.files_done, uploader.progress.ratio], [2, 2, 1]);
  uploader.clear();
  assert.deepEqual([uploader.files.length, uploader.progress.files], [0, 0]);
  uploader.close();
});

test("records of one account are not shown to another", async () => {
  const world = new World();
  const storage = new Shelf();
  const token = (sub) => `h.${btoa(JSON.stringify({ iss: "i", tenant: "t", sub }))}.s`;
  world.faults.push((kind) => (kind === "put" ? "hang" : undefined));
  const uploader = uploaderIn(world, { storage, token: token("ann") });
  await uploader.add(fileOf("private.bin", LARGE));
  await until(() => storage.records.size === 1);
  const other = uploaderIn(world, { storage, token: token("bob") });
  assert.deepEqual(await other.resumable(), []);
  assert.equal((await uploaderIn(world, { storage, token: token("ann") }).resumable()).length, 1);
  uploader.close();
  other.close();
});

test("what the API refuses as a whole is found entry by entry", async () => {
  const world = new World();
  world.faults.push((kind, _, { body, path }) => (kind === "api" && path === "/v1/uploads" && body.files?.some((file) => file.name === "bad") ? { status: 422, code: "invalid_body" } : undefined));
  const uploader = uploaderIn(world);
  const { files } = await uploader.add(["a", "bad", "c"].map((name, i) => fileOf(name, 10 + i)), { batch: false });
  await Promise.all(files.map((file) => file.finished));
  assert.deepEqual(files.map((file) => file.error?.code ?? file.state), ["done", "invalid_body", "done"]);
  uploader.close();
});
