import assert from "node:assert/strict";
import { test } from "node:test";

import { checked, ConfigError } from "../../../../web/page/config.js";
import * as dicom from "../../../../web/page/dicom.js";
import { Pages } from "../../../../web/page/pages.js";
import { Pictures } from "../../../../web/page/pictures.js";
import * as pkce from "../../../../web/page/pkce.js";
import { Remembered } from "../../../../web/page/remembered.js";
import { address, parse } from "../../../../web/page/router.js";

test("addresses of views go both ways", () => {
  for (const parts of [["files"], ["files", "01J/ä?#"], ["dicom", "studies", "1.2.3", "4.5"]]) {
    assert.deepEqual(parse(address(parts, { status: "failed", kind: "", more: "a&b=c" })), { parts, query: { status: "failed", more: "a&b=c" } });
  }
  assert.deepEqual(parse(""), { parts: [], query: {} });
  assert.deepEqual(parse("#/files/%E0%A4%A"), { parts: ["unknown"], query: {} });
});

test("PKCE is RFC 7636's: its own example, and verifiers of 43 characters", async () => {
  assert.equal(await pkce.challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
  assert.match(pkce.random(), /^[A-Za-z0-9_-]{43}$/);
  const url = new URL(pkce.authorizeUrl("https://issuer.example/a?pool=1", { client_id: "c", redirect_uri: "https://p.example/", scope: "openid", state: "s", code_challenge: "x", parameters: { audience: "h", response_type: "token" } }));
  assert.deepEqual(Object.fromEntries(url.searchParams), {
    pool: "1", audience: "h", response_type: "code", client_id: "c", redirect_uri: "https://p.example/", scope: "openid", state: "s", code_challenge: "x", code_challenge_method: "S256",
  });
});

test("an issuer's answer is read once and leaves the address", () => {
  const back = "https://p.example/page?x=1&code=abc&state=s1&iss=i#/files";
  assert.deepEqual(pkce.answerIn(back), { state: "s1", code: "abc", iss: "i" });
  assert.equal(pkce.withoutAnswer(back), "/page?x=1#/files");
  assert.deepEqual(pkce.answerIn("https://p.example/?state=s&error=access_denied"), { state: "s", error: "access_denied", description: "" });
  assert.equal(pkce.answerIn("https://p.example/?code=no-state"), null);
  const token = `x.${Buffer.from(JSON.stringify({ sub: "jürgen", tenant: "t" })).toString("base64url")}.y`;
  assert.deepEqual(pkce.claims(token), { sub: "jürgen", tenant: "t" });
  assert.deepEqual(pkce.claims("opaque"), {});
  assert.deepEqual(pkce.claims("a.%%%.b"), {});
});

test("a configuration is checked in words", () => {
  const page = "https://p.example/page/index.html";
  const oidc = { kind: "oidc", issuer: "https://i.example/pool/", client_id: "page" };
  const found = checked({ version: 1, api: "https://api.example/", sign_in: oidc }, page);
  assert.equal(found.api, "https://api.example");
  assert.equal(found.sign_in.issuer, "https://i.example/pool/");
  assert.equal(found.sign_in.issuer_url, "https://i.example/pool");
  assert.equal(checked({ version: 1, sign_in: { kind: "development" } }, "http://127.0.0.1:1/").sign_in.token_url, "http://127.0.0.1:1/_local/token");
  const wrong = [[null, /no object/], [{ version: 2 }, /version/], [{ version: 1 }, /sign_in.kind/], [{ version: 1, sign_in: { kind: "oidc" } }, /issuer/],
    [{ version: 1, api: "http://api.example", sign_in: oidc }, /api must be https/], [{ version: 1, sign_in: { ...oidc, issuer: "http://i.example" } }, /issuer must be https/],
    [{ version: 1, sign_in: { ...oidc, sign_out_url: "javascript:alert(1)" } }, /sign_out_url must be https/]];
  for (const [document, words] of wrong) assert.throws(() => checked(document, page), (error) => error instanceof ConfigError && words.test(error.message));
});

test("DICOM JSON becomes what views show; frames are in order", () => {
  const found = dicom.study({ "0020000D": { vr: "UI", Value: ["1.2"] }, "00100010": { vr: "PN", Value: [{ Alphabetic: "Doe^J" }] }, "00201208": { vr: "IS", Value: [12] }, "00080061": { vr: "CS", Value: ["CT", null] } });
  assert.equal(found.patient, "Doe^J");
  assert.equal(found.instances, 12);
  assert.deepEqual(found.modalities, ["CT"]);
  assert.equal(found.series, null);
  const frames = dicom.framesOf([{ uid: "c", number: null, frames: 1 }, { uid: "b", number: 2, frames: 2 }, { uid: "a", number: 1, frames: 1 }]);
  assert.deepEqual(frames.map(({ uid, frame }) => [uid, frame]), [["a", 1], ["b", 1], ["b", 2], ["c", 1]]);
  assert.deepEqual(["CT", "", "SR", "RTPLAN"].map(dicom.pictured), [true, true, false, false]);
  assert.deepEqual(dicom.rendered("1", "2", { uid: "3", frame: 4 }, { window: { center: 40.123, width: 400 } }), { path: "/v1/dicomweb/studies/1/series/2/instances/3/frames/4/rendered", query: { window: "40.12,400,linear", viewport: undefined } });
});

test("windows: the file's own, else what its bits allow; drags keep a width of at least 1", () => {
  const ds = (center, width) => ({ "00281050": { Value: [center] }, "00281051": { Value: [width] } });
  assert.deepEqual(dicom.windowOf(ds(40, 400)), { center: 40, width: 400 });
  assert.deepEqual(dicom.windowOf({ "00280101": { Value: [12] }, "00280103": { Value: [0] } }), { center: 2048, width: 4096 });
  assert.deepEqual(dicom.windowOf({ "00280101": { Value: [16] }, "00280103": { Value: [1] } }), { center: 0, width: 65536 });
  assert.equal(dicom.windowOf({ "00280004": { Value: ["RGB"] } }), null);
  assert.deepEqual(dicom.dragged({ center: 0, width: 300 }, 10, -5), { center: -5, width: 310 });
  assert.equal(dicom.dragged({ center: 0, width: 300 }, -9999, 0).width, 1);
});

test("a list goes back and forth; an empty page with a token is no end; a late answer changes nothing", async () => {
  const pagesOf = { undefined: ["a", "t1"], t1: [null, "t2"], t2: ["b", "t3"], t3: ["c", null] };
  const asked = [];
  const pages = new Pages(async ({ next_token }) => {
    asked.push(next_token);
    const [item, token] = pagesOf[String(next_token)];
    return { items: item ? [item] : [], next_token: token };
  }, () => {});
  await pages.refresh();
  assert.deepEqual([pages.items, pages.more], [["a"], true]);
  await pages.turn(1);
  assert.deepEqual(pages.items, ["b"]);
  await pages.turn(1);
  assert.deepEqual([pages.items, pages.more], [["c"], false]);
  await pages.turn(-1);
  assert.deepEqual(pages.items, ["b"]);
  assert.deepEqual(asked, [undefined, "t1", "t2", "t3", "t1", "t2"]);

  const answers = [];
  const slow = new Pages(() => new Promise((resolve) => answers.push(resolve)), () => {});
  const first = slow.refresh();
  const second = slow.restart();
  answers[1]({ items: ["new"], next_token: null });
  answers[0]({ items: ["old"], next_token: null });
  await Promise.all([first, second]);
  assert.deepEqual(slow.items, ["new"]);
});

test("a picture keeps its address while its signature is young", () => {
  let now = 0;
  const pictures = new Pictures(() => now);
  assert.equal(pictures.steady("https://s3/a?sig=1"), "https://s3/a?sig=1");
  now = 599_000;
  assert.equal(pictures.steady("https://s3/a?sig=2"), "https://s3/a?sig=1");
  now = 601_000;
  assert.equal(pictures.steady("https://s3/a?sig=3"), "https://s3/a?sig=3");
});

test("ids are remembered apart for each account, the newest first, and a broken storage is none", () => {
  const kept = new Map();
  const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) };
  const mine = new Remembered("batches", "i|t|me", storage);
  mine.add("1", "one");
  mine.add("2", "two");
  mine.add("1", "one again");
  assert.deepEqual(mine.all().map(({ id, name }) => [id, name]), [["1", "one again"], ["2", "two"]]);
  assert.deepEqual(new Remembered("batches", "i|t|you", storage).all(), []);
  mine.forget("1");
  assert.deepEqual(mine.all().map(({ id }) => id), ["2"]);
  for (const broken of ["{", "5", '[{"id":5}]']) {
    kept.set("heavylift.batches.i|t|me", broken);
    assert.deepEqual(mine.all(), []);
  }
  const full = new Remembered("batches", "x", { getItem: () => { throw new Error("denied"); }, setItem: () => { throw new Error("full"); } });
  full.add("1", "one");
  assert.deepEqual(full.all(), []);
});
