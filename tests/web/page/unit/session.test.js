import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Session, SignInError } from "../../../../web/page/session.js";

const ISSUER = "https://issuer.example";
const CONFIG = { sign_in: { kind: "oidc", issuer: ISSUER, issuer_url: ISSUER, client_id: "page", scope: "openid", redirect_uri: null, parameters: {}, sign_out_url: null } };
let asked;
let kept;
let answers;

/** A page that comes back from the issuer with an answer to the sign-in `state`. */
beforeEach(() => {
  asked = [];
  kept = new Map();
  answers = { issuer: ISSUER, token: () => ({ status: 200, body: { access_token: "first", refresh_token: "r1", expires_in: 3600 } }) };
  globalThis.location = { href: "https://p.example/?code=c&state=s&iss=https%3A%2F%2Fissuer.example", origin: "https://p.example", pathname: "/", hash: "", assign: (url) => asked.push(["left", url]) };
  globalThis.history = { replaceState: (_, __, url) => asked.push(["address", url]) };
  globalThis.sessionStorage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value), removeItem: (key) => kept.delete(key) };
  globalThis.fetch = async (url, { body } = {}) => {
    if (url.endsWith("openid-configuration")) return Response.json({ issuer: answers.issuer, authorization_endpoint: `${ISSUER}/a`, token_endpoint: `${ISSUER}/t` });
    asked.push(["token", Object.fromEntries(body)]);
    const { status, body: json } = await answers.token(body);
    return Response.json(json, { status });
  };
  kept.set("heavylift.sign-in", JSON.stringify({ state: "s", verifier: "v", hash: "#/files" }));
});

test("an answer becomes a token in memory; nothing of it is kept", async () => {
  const session = new Session(CONFIG);
  assert.equal(await session.begin(), true);
  assert.equal(await session.token(), "first");
  assert.deepEqual(asked.filter(([what]) => what === "token"), [["token", { grant_type: "authorization_code", code: "c", code_verifier: "v", redirect_uri: "https://p.example/", client_id: "page" }]]);
  assert.deepEqual(asked.filter(([what]) => what === "address").map(([, url]) => url), ["/", "#/files"]);
  assert.deepEqual([...kept], [["heavylift.signed-in", "1"]]);
});

test("an answer to nobody's question, of another issuer or a refusal is none", async () => {
  const tries = [
    [() => kept.clear(), /not begun here/],
    [() => kept.set("heavylift.sign-in", JSON.stringify({ state: "another", verifier: "v" })), /not begun here/],
    [() => { location.href = location.href.replace("issuer.example", "evil.example"); }, /another issuer/],
    [() => { answers.issuer = "https://evil.example"; }, /another name/],
    [() => { location.href = "https://p.example/?state=s&error=access_denied&error_description=No"; }, /refused: No/],
    [() => { answers.token = () => ({ status: 400, body: { error: "invalid_grant" } }); }, /did not take/],
  ];
  const fresh = [...kept];
  const address = location.href;
  for (const [change, words] of tries) {
    kept.clear();
    for (const [key, value] of fresh) kept.set(key, value);
    location.href = address;
    answers.issuer = ISSUER;
    change();
    const session = new Session(CONFIG);
    await assert.rejects(session.begin(), (error) => error instanceof SignInError && words.test(error.message));
    assert.equal(session.state, "signed-out");
  }
});

test("a token that is about to end is renewed once, however many ask", async () => {
  let given = 0;
  answers.token = () => ({ status: 200, body: { access_token: `t${(given += 1)}`, refresh_token: `r${given}`, expires_in: given === 1 ? 30 : 3600 } });
  const session = new Session(CONFIG);
  await session.begin();
  assert.deepEqual(await Promise.all([session.token(), session.token(), session.token()]), ["t2", "t2", "t2"]);
  assert.equal(asked.filter(([what, fields]) => what === "token" && fields.refresh_token === "r1").length, 1);
  assert.equal(await session.token(true), "t3");
});

test("where the issuer refuses, whoever asks waits; signing out lets them go", async () => {
  const session = new Session(CONFIG);
  await session.begin();
  answers.token = () => ({ status: 400, body: {} });
  const waiting = session.token(true);
  const state = await Promise.race([waiting, new Promise((resolve) => setTimeout(() => resolve(session.state), 20))]);
  assert.equal(state, "expired");
  await session.signOut();
  await assert.rejects(waiting, SignInError);
  await assert.rejects(session.token(), SignInError);
  assert.deepEqual(session.claims, {});
  assert.deepEqual([...kept], []);
});

test("where nobody answers, the old token does as long as it lives", async () => {
  const session = new Session(CONFIG);
  await session.begin();
  answers.token = () => { throw new TypeError("offline"); };
  assert.equal(await session.token(true), "first");
  answers.token = () => ({ status: 503, body: {} });
  assert.equal(await session.token(true), "first");
  assert.equal(session.state, "signed-in");
});
