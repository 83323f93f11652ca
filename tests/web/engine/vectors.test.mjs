// What the engine, the Python client and the server have to agree on: tests/vectors.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { fullJitter, pauseSeconds, pollSeconds, retryAfterSeconds } from "../../../web/engine/backoff.js";
import { base64, composite, fromBase64, hex } from "../../../web/engine/checksums.js";
import { fingerprintBy } from "../../../web/engine/fingerprint.js";
import { inlineHasher } from "../../../web/engine/hasher.js";
import { Meter } from "../../../web/engine/meter.js";
import { afterEpoch, slowed } from "../../../web/engine/pace.js";
import { expand, joinable, pagesOf, partOf, planOf, tiled, windowSize } from "../../../web/engine/plan.js";
import { signedForm, signedUrl } from "../../../web/engine/sending.js";
import { Sha256 } from "../../../web/engine/sha256.js";
import { NO_TRIES, judge, readAnswer } from "../../../web/engine/verdict.js";

const vectors = (name) => JSON.parse(readFileSync(new URL(`../../vectors/${name}.json`, import.meta.url)));

/** Bytes of the vectors' contents, at any offset, without the file. */
const contents = {
  zero: (offset, length) => new Uint8Array(length),
  pattern: (offset, length) => {
    const bytes = new Uint8Array(length);
    let [a, block, within] = [offset % 251, Math.floor(offset / 65_536), offset % 65_536];
    for (let i = 0; i < length; i += 1) {
      bytes[i] = a + (block % 256) * 7;
      a = a === 250 ? 0 : a + 1;
      within += 1;
      if (within === 65_536) [within, block] = [0, block + 1];
    }
    return bytes;
  },
};

test("the part plan is the server's", () => {
  for (const { size, max_part_size, code, mode, part_size, part_count, problem } of vectors("part_plan").cases) {
    const refused = code ?? problem;
    if (refused) assert.throws(() => planOf(size, max_part_size), { code: refused }, `${size}`);
    else assert.deepEqual(planOf(size, max_part_size), { mode, part_size, part_count }, `${size}`);
  }
});

test("fingerprints are the Python client's", async () => {
  for (const { content, size, fingerprint } of vectors("fingerprint").cases) {
    assert.equal(await fingerprintBy(size, contents[content]), fingerprint, `${content} ${size}`);
  }
});

test("digests of parts, composites and whole files are Python's", () => {
  for (const { content, size, part_size, parts, composite: whole, sha256 } of vectors("checksums").cases) {
    const digests = [];
    const all = new Sha256();
    for (let at = 0; at < size || !digests.length; at += part_size) {
      const bytes = contents[content](at, Math.min(part_size, size - at));
      digests.push(base64(new Sha256().update(bytes).digest()));
      all.update(bytes);
    }
    assert.deepEqual(digests, parts);
    assert.equal(composite(digests), whole);
    assert.equal(hex(all.digest()), sha256);
  }
});

test("S3's answers are decided as the Python client decides them", () => {
  for (const { status, code, tries, failing_s, patience_s, act } of vectors("s3_verdicts").cases) {
    const answer = { status, code };
    assert.equal(judge(answer, { ...NO_TRIES, ...tries }, failing_s, patience_s), act, JSON.stringify({ status, code, tries, failing_s }));
  }
});

test("the plain SHA-256 equals OpenSSL's for every length around its blocks, however it is fed", () => {
  const data = randomBytes(1024);
  for (let length = 0; length <= 300; length += 1) {
    const some = data.subarray(0, length);
    const cut = Math.floor(length / 3);
    const hash = new Sha256().update(some.subarray(0, cut)).update(some.subarray(cut));
    assert.equal(hex(hash.digest()), createHash("sha256").update(some).digest("hex"), `${length}`);
  }
});

test("without workers the page hashes the same, in small steps, and hears of a cut", async () => {
  const bytes = randomBytes(600_000);
  const hasher = inlineHasher();
  assert.equal(await hasher.sha256(new Blob([bytes])), createHash("sha256").update(bytes).digest("base64"));
  assert.equal(await hasher.fingerprint(new Blob([])), `v1:${createHash("sha256").update(Buffer.alloc(8)).digest("hex")}`);
  await assert.rejects(hasher.sha256(new Blob([bytes]), AbortSignal.abort(new Error("cut"))), { message: "cut" });
});

test("base64 and hex go both ways", () => {
  const bytes = new Uint8Array(randomBytes(32));
  assert.deepEqual(fromBase64(base64(bytes)), bytes);
  assert.equal(hex(bytes), Buffer.from(bytes).toString("hex"));
});

test("parts tile the file, and an answer that does not is refused", () => {
  const plan = tiled(100, 30, 4);
  assert.deepEqual(Array.from({ length: 4 }, (_, i) => partOf(plan, i + 1)).map(({ offset, size }) => [offset, size]), [[0, 30], [30, 30], [60, 30], [90, 10]]);
  for (const number of [0, 5, 1.5]) assert.throws(() => partOf(plan, number), { code: "bad_answer" });
  for (const given of [[100, 30, 3], [100, -1, 1], [10_001, 1, 10_001], [0, 0, 2]]) assert.throws(() => tiled(...given), { code: "bad_answer" });
  assert.deepEqual(tiled(0, 1, 1), { size: 0, part_size: 1, part_count: 1 });
});

test("ranges become numbers, nonsense is refused", () => {
  assert.deepEqual(expand([[3, 4], [1, 1], [4, 5]], 5), [1, 3, 4, 5]);
  for (const bad of [null, [[0, 1]], [[2, 1]], [[1, 6]], [[1]], ["12"]]) assert.throws(() => expand(bad, 5), { code: "bad_answer" });
});

test("a session fits a file only if every received part can be proven", () => {
  const record = { status: "uploading", mode: "multipart", size: 100, part_size: 60, part_count: 2, received: [[2, 2]], parts: [{ part_number: 2, size: 40, sha256: "x" }] };
  assert.deepEqual(joinable(record, 100).received, [{ number: 2, offset: 60, size: 40, sha256: "x" }]);
  const spoilt = [{ status: "staged" }, { mode: "single" }, { size: 99 }, { part_count: 3 }, { received: [[1, 2]] }, { parts: [{ part_number: 2, size: 41, sha256: "x" }] }, { parts: [{ part_number: 2, size: 40 }] }, { parts: 3 }];
  for (const change of spoilt) assert.equal(joinable({ ...record, ...change }, 100), null, JSON.stringify(change));
  assert.equal(joinable(null, 100), null);
});

test("pages of a manifest hold what the API takes", () => {
  const entries = Array.from({ length: 10_001 }, (_, n) => ({ n, name: String(n) }));
  assert.deepEqual([...pagesOf(entries)].map((page) => page.length), [5000, 5000, 1]);
  const long = Array.from({ length: 1000 }, (_, n) => ({ n, name: "x".repeat(5000), relative_path: "y".repeat(5000) }));
  const pages = [...pagesOf(long)];
  assert.ok(pages.every((page) => JSON.stringify(page).length < 3_000_000));
  assert.equal(pages.flat().length, 1000);
});

test("windows are what goes out within a part of a URL's life", () => {
  assert.deepEqual([windowSize(0, 2, 6, 200), windowSize(10, null, 6, 200), windowSize(100, 2, 6, 200), windowSize(1, 2, 6, 200), windowSize(1e6, 900, 6, 200)], [200, 200, 80, 6, 200]);
});

test("waits grow with full jitter, and a Retry-After counts", () => {
  assert.deepEqual([fullJitter(0, 1), fullJitter(3, 1), fullJitter(60, 1), fullJitter(5, 0)].map((s) => Math.round(s * 1000)), [300, 2400, 20_000, 0]);
  assert.deepEqual([retryAfterSeconds("7"), retryAfterSeconds("99999"), retryAfterSeconds(null), retryAfterSeconds("soon")], [7, 300, null, null]);
  assert.equal(retryAfterSeconds("Thu, 01 Jan 1970 00:00:10 GMT", 4000), 6);
  assert.equal(pauseSeconds(0, 0.5, 5), 5);
  assert.deepEqual([pollSeconds(0), pollSeconds(99)], [0.2, 2]);
});

test("the pace climbs while it pays, falls back where it does not, halves when the store says so", () => {
  const start = { limit: 4, most: 6, before: null, rate: 0, hold: 0 };
  const up = afterEpoch(start, 100, true);
  assert.deepEqual([up.limit, up.before], [5, 4]);
  assert.deepEqual([afterEpoch(up, 120, true).limit, afterEpoch(up, 105, true).limit], [6, 4]);
  assert.equal(afterEpoch(start, 100, false).limit, 4);
  assert.deepEqual([slowed(start).limit, slowed({ ...start, limit: 1 }).limit], [2, 1]);
});

test("an answer is read without trusting it, and no URL of it is repeated", () => {
  const text = "<Error><Code>SlowDown</Code><Message>see https://s3/x?X-Amz-Signature=1 &amp; wait</Message></Error>";
  assert.deepEqual(readAnswer(503, text), { status: 503, code: "SlowDown", message: "see <url> & wait", retry_after: null });
  assert.deepEqual(readAnswer(500, "<html>"), { status: 500, code: "", message: "", retry_after: null });
});

test("a signature's life is the one that it names, whatever the clocks say", () => {
  const url = "https://s3.test/k?X-Amz-Date=20300101T000000Z&X-Amz-Expires=100";
  assert.deepEqual([signedUrl({ url }, 50).stale_at, signedUrl({ url: "https://s3.test/k" }, 50).stale_at], [145, null]);
  const form = { url: "u", fields: { "x-amz-date": "20300101T000000Z" }, expires_at: "2030-01-01T00:00:02Z" };
  assert.equal(signedForm(form, 50).stale_at, 50 + 2 - 0.4);
});

test("speed and time left are smooth, unknown at first, and rest when nothing moves", () => {
  let now = 0;
  const meter = new Meter({ now: () => now });
  const shown = [];
  for (let i = 0; i <= 400; i += 1, now += 0.1) {
    meter.saw(Math.floor(i / 20) * 2_000_000); // a part every two seconds: 1 MB/s
    shown.push(meter.left(60_000_000 - Math.floor(i / 20) * 2_000_000));
  }
  assert.equal(shown[3], null);
  const steps = shown.slice(120).map((left, i, all) => (i ? Math.abs(left - all[i - 1]) : 0));
  assert.ok(Math.max(...steps) < 6, `it jumped by ${Math.max(...steps)} s`);
  assert.ok(Math.abs(meter.speed - 1_000_000) < 200_000, `${meter.speed}`);
  now += 20;
  assert.deepEqual([meter.speed, meter.left(1)], [0, null]);
  meter.rest();
  assert.equal(meter.speed, null);
});
