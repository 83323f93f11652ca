// Folders and many files: listed, sent by one form, completed, found again. The world is world.mjs.

import assert from "node:assert/strict";
import { test } from "node:test";

import { MIB, Locks, Shelf, World, base64Sha256, bytesOf, fileOf, nodeHasher, until, uploaderIn } from "./world.mjs";

const LARGE = 17 * MIB;

const folder = (count, { large = 0, seed = 1 } = {}) =>
  Array.from({ length: count }, (_, i) => {
    const file = fileOf(`${i}.bin`, i < large ? LARGE + i : 100 + i, seed + i);
    return { file, name: file.name, relative_path: `scans/${i % 3}/${i}.bin` };
  });

async function allThere(world, batch, named) {
  const { objects } = world.batches.get(batch.batch_id);
  for (const [n, { file }] of named.entries()) {
    const found = objects.get(n) ?? world.sessions.get(`${batch.batch_id}-${String(n).padStart(6, "0")}`)?.object;
    assert.ok(found, `file ${n} is not there`);
    assert.equal(Buffer.compare(Buffer.from(found), Buffer.from(await bytesOf(file))), 0);
  }
}

test("a folder is a batch: listed in pages, small files by one form with a digest each, large ones in parts", async () => {
  const world = new World();
  const uploader = uploaderIn(world);
  const named = folder(40, { large: 2 });
  const { batch, files } = await uploader.add(named, { kind: "image", facility: "north", metadata: { a: 1 }, description: "d" });
  assert.equal(batch.name, "scans");
  await batch.finished;
  assert.equal(batch.state, "done", batch.error?.message);
  await allThere(world, batch, named);
  const made = world.batches.get(batch.batch_id);
  assert.deepEqual(made.said, { kind: "image", total: 40, mode: "post", checksum: "sha256", facility: "north", metadata: { a: 1, description: "d" } });
  assert.deepEqual([...made.entries.values()][4], { n: 4, name: "4.bin", size: 104, relative_path: "1/4.bin" });
  assert.ok(files.every((file) => file.state === "done" && file.batch === batch && file.record.verdict === "completed"));
  assert.deepEqual([world.counted(/^FORM/), world.counted(/^PUT \/v1\/batches/), world.counted(/policy$/)], [38, 1, 0]);
  assert.deepEqual([batch.progress.files_done, batch.progress.ratio], [40, 1]);
  assert.deepEqual(await uploader.resumable(), []);
  uploader.close();
});

test("more than twenty loose files are a batch, fewer are not; it can be asked for either way", async () => {
  const world = new World();
  const uploader = uploaderIn(world);
  const loose = (count) => Array.from({ length: count }, (_, i) => fileOf(`${i}`, 10, i));
  assert.equal((await uploader.add(loose(20))).batch, null);
  assert.equal((await uploader.add(loose(21))).batch.name, "21 files");
  assert.notEqual((await uploader.add(loose(2), { batch: true, name: "two" })).batch, null);
  const added = await uploader.add(loose(30), { batch: false });
  assert.equal(added.batch, null);
  await Promise.all(uploader.files.map((file) => file.finished));
  assert.ok(uploader.files.every((file) => file.state === "done"));
  uploader.close();
});

test("a form that lives for ten seconds is renewed by one file for all", async () => {
  const world = new World();
  world.life_s = 10;
  const uploader = uploaderIn(world);
  const named = folder(300);
  const { batch } = await uploader.add(named);
  await batch.finished;
  await allThere(world, batch, named);
  assert.ok(world.counted(/policy$/) < 100, `${world.counted(/policy$/)} policies`);
  uploader.close();
});

test("a form that S3 refuses is renewed once for all who were refused", async () => {
  const world = new World();
  let first = null;
  world.faults.push((kind, _, { fields }) => {
    if (kind !== "form") return undefined;
    first ??= fields.policy;
    return fields.policy === first ? { status: 403, code: "AccessDenied" } : undefined;
  });
  const uploader = uploaderIn(world);
  const named = folder(30);
  const { batch } = await uploader.add(named);
  await batch.finished;
  await allThere(world, batch, named);
  assert.equal(world.counted(/policy$/), 1);
  uploader.close();
});

test("one in ten refused with 503: all arrive", async () => {
  const world = new World();
  let calls = 0;
  world.faults.push((kind) => (["form", "put"].includes(kind) && (calls += 1) % 10 === 0 ? { status: 503, code: "SlowDown" } : undefined));
  const uploader = uploaderIn(world);
  const named = folder(120, { large: 1 });
  const { batch } = await uploader.add(named);
  await batch.finished;
  assert.equal(batch.state, "done");
  await allThere(world, batch, named);
  uploader.close();
});

test("a file that cannot be read fails alone; the batch is completed without it", async () => {
  const world = new World();
  const hasher = nodeHasher();
  const bad = fileOf("bad", 10, 99);
  const uploader = uploaderIn(world, {
    hasher: { ...hasher, sha256: async (body, signal) => {
      if (base64Sha256(await bytesOf(body)) === base64Sha256(await bytesOf(bad))) throw Object.assign(new (await import("../../../web/engine/errors.js")).UploadError("source_changed", "gone"));
      return hasher.sha256(body, signal);
    } },
  });
  const { batch, files } = await uploader.add([...folder(5), { file: bad, relative_path: "scans/bad" }]);
  await batch.finished;
  assert.deepEqual([batch.state, files[5].state, files[5].error.code, files[0].state], ["done", "failed", "source_changed", "done"]);
  assert.equal(world.counted(/complete$/), 1);
  uploader.close();
});

test("what may succeed later keeps the batch open; retry sends only that", async () => {
  const world = new World();
  world.faults.push((kind, n) => (kind === "form" && n < 3 && !world.free ? { status: 403, code: "SignatureDoesNotMatch" } : undefined));
  const uploader = uploaderIn(world);
  const named = folder(20);
  const { batch, files } = await uploader.add(named);
  await batch.finished;
  assert.deepEqual([batch.state, batch.error.code, batch.error.retryable], ["failed", "files_failed", true]);
  assert.equal(files.filter((file) => file.state === "failed").length, 3);
  assert.equal(world.counted(/complete$/), 0);
  world.free = true;
  world.calls.length = 0;
  batch.retry();
  await batch.finished;
  assert.equal(batch.state, "done");
  assert.equal(world.counted(/^FORM/), 3);
  await allThere(world, batch, named);
  uploader.close();
});

test("pause and resume of a batch, and of one file in it", async () => {
  const world = new World();
  world.faults.push((kind, n) => (kind === "form" && n >= 10 && !world.free ? "hang" : undefined));
  const uploader = uploaderIn(world);
  const named = folder(30);
  const { batch, files } = await uploader.add(named);
  await until(() => world.counted(/^FORM 1[0-5]/) === 6);
  batch.pause();
  assert.deepEqual([batch.state, files[12].state, files[2].state], ["paused", "paused", "processing"]);
  world.free = true;
  files[29].pause();
  world.calls.length = 0;
  batch.resume();
  files[28].pause();
  await until(() => files.filter((file) => file.state === "processing").length >= 28);
  assert.equal(batch.state, "uploading");
  for (const file of files) file.resume();
  await batch.finished;
  assert.equal(batch.state, "done");
  assert.equal(world.counted(/^FORM/), 20);
  await allThere(world, batch, named);
  uploader.close();
});

test("cancel ends the batch; one cancelled file is left out", async () => {
  const world = new World();
  world.faults.push((kind, n) => (kind === "form" && (n === 3 || world.hang) ? "hang" : undefined));
  const uploader = uploaderIn(world);
  const { batch, files } = await uploader.add(folder(10));
  await until(() => world.counted(/^FORM/) === 10);
  await files[3].cancel();
  await batch.finished;
  assert.deepEqual([batch.state, files[3].state, files[4].state], ["done", "cancelled", "done"]);

  world.hang = true;
  const { batch: second, files: others } = await uploader.add(folder(10));
  await until(() => second.state === "uploading");
  await second.cancel();
  assert.deepEqual([second.state, world.batches.get(second.batch_id).status], ["cancelled", "cancelled"]);
  assert.ok(others.every((file) => file.state === "cancelled"));
  assert.deepEqual(await uploader.resumable(), []);
  uploader.close();
});

async function interrupted({ count = 60, large = 0, locks = new Locks() } = {}) {
  const world = new World();
  const storage = new Shelf();
  world.faults.push((kind, n) => (kind === "form" && n >= count - 3 && !world.free ? "hang" : undefined));
  const before = uploaderIn(world, { storage, locks });
  const named = folder(count, { large });
  const { batch } = await before.add(named);
  await until(() => batch.files.filter((file) => file.state === "processing").length === count - 3);
  before.close();
  await until(() => [...storage.records.values()].some((one) => one.kind === "stored"));
  world.free = true;
  world.calls.length = 0;
  return { world, storage, named, batch, locks };
}

test("after a reload a folder goes on: what arrived is compared, the rest is sent", async () => {
  const { world, storage, named, batch, locks } = await interrupted({ large: 1 });
  const after = uploaderIn(world, { storage, locks });
  const [kept] = await after.resumable();
  assert.deepEqual([kept.kind, kept.id, kept.name, kept.files], ["batch", batch.batch_id, "scans", 60]);
  const { batch: again, files } = await kept.resume(named);
  await again.finished;
  assert.equal(again.state, "done", again.error?.message);
  assert.equal(again.batch_id, batch.batch_id);
  assert.equal(world.counted(/^FORM/), 3);
  assert.equal(world.counted(/^POST \/v1\/(batches|uploads)$/), 0);
  assert.ok(files[5].bytes_resumed > 0);
  await allThere(world, again, named);
  assert.deepEqual([await after.resumable(), storage.records.size], [[], 0]);
  after.close();
});

test("another folder is noticed at once, another file under an old name when it is compared", async () => {
  const { world, storage, named, locks } = await interrupted();
  const after = uploaderIn(world, { storage, locks });
  const [kept] = await after.resumable();
  await assert.rejects(kept.resume(named.slice(1)), (error) => error.code === "wrong_file" && /1 of its 60 files/.test(error.message));
  const changed = fileOf("7.bin", named[7].file.size, 77);
  const { batch, files } = await kept.resume(named.map((one, i) => (i === 7 ? { ...one, file: changed } : one)));
  await batch.finished;
  assert.deepEqual([files[7].state, files[7].error.code, files[8].state], ["failed", "wrong_file", "done"]);
  assert.equal(world.counted(/^FORM 7$/), 0);
  after.close();
});

test("another browser goes on with a batch by its id: the server's digests are compared", async () => {
  const { world, named, batch, locks } = await interrupted();
  const elsewhere = uploaderIn(world, { locks });
  const { batch: again } = await elsewhere.add(named, { batch: batch.batch_id });
  await again.finished;
  assert.equal(again.state, "done", again.error?.message);
  assert.equal(world.counted(/^FORM/), 3);
  await allThere(world, again, named);
  elsewhere.close();
});

test("discard ends what was left at the server and here", async () => {
  const { world, storage, batch, locks } = await interrupted();
  const after = uploaderIn(world, { storage, locks });
  const [kept] = await after.resumable();
  await kept.discard();
  assert.equal(world.batches.get(batch.batch_id).status, "cancelled");
  assert.equal(storage.records.size, 0);
  after.close();
});

test("two thousand files: four calls and a form each, and the page has its turns", async () => {
  const world = new World();
  const uploader = uploaderIn(world, { follow: false });
  const told = { most: 0, files: new Set(), ended: 0, heard: 0 };
  uploader.addEventListener("change", ({ detail: { files } }) => {
    told.most = Math.max(told.most, files.length);
    for (const file of files) told.files.add(file.id);
  });
  uploader.addEventListener("end", () => { told.ended += 1; });
  uploader.addEventListener("added", ({ detail: { files } }) => files[7].addEventListener("change", () => { told.heard += 1; }));
  const idle = new Promise((resolve) => uploader.addEventListener("idle", resolve));
  const { batch } = await uploader.add(Array.from({ length: 2000 }, (_, i) => ({ file: new Blob([String(i)]), name: `${i}` })));
  await batch.finished;
  assert.equal(world.batches.get(batch.batch_id).objects.size, 2000);
  assert.deepEqual(world.calls.filter((call) => !call.startsWith("FORM")).map((call) => call.replace(/U\d+/, "X")), [
    "POST /v1/batches", "PUT /v1/batches/X/manifest/0", "POST /v1/batches/X/complete",
  ]);
  assert.ok(world.most_at_once <= 6);
  await idle;
  assert.deepEqual([told.files.size, told.ended, told.most <= 500, told.heard > 0], [2000, 2000, true, true]);
  uploader.close();
});

test("a verdict against a file of a batch is that file's; a failure of the server is retried there", async () => {
  const world = new World();
  world.verdict = ({ file: { name } }) => (name === "2.bin" ? { status: "rejected", verdict: "rejected", code: "bad", message: "Bad." } : { status: "completed", verdict: "completed" });
  const uploader = uploaderIn(world);
  const { batch, files } = await uploader.add(folder(4));
  await batch.finished;
  assert.deepEqual([batch.state, files[2].state, files[2].error.code, files[1].state], ["done", "failed", "bad", "done"]);
  uploader.close();
});
