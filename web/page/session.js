// Who is signed in. Tokens live in this object's memory and go with the page; sessionStorage holds the PKCE verifier
// between leaving for the issuer and coming back, and a mark that this tab was signed in, and nothing else.

import * as pkce from "./pkce.js";

const PENDING = "heavylift.sign-in";
const WAS_SIGNED_IN = "heavylift.signed-in";
const CHANNEL = "heavylift.sign-in";
const RENEW_BEFORE_S = 60;

export class SignInError extends Error {}

/**
 * `state`: "signed-out", "signed-in" or "expired". Tells of changes by `change` events. `token()` waits while the
 * session is expired, so that uploads go on where they were when its holder has signed in again.
 */
export class Session extends EventTarget {
  #config;
  #token = null;
  #refresh = null;
  #endsAt = 0;
  #endpoints = null;
  #renewal = null;
  #waiting = [];
  state = "signed-out";
  claims = {};

  constructor(config) {
    super();
    this.#config = config.sign_in;
  }

  get development() {
    return this.#config.kind === "development";
  }

  /** Signs in where that needs nobody: by the issuer's answer in the address, or locally. True when somebody is. */
  async begin() {
    if (this.development) {
      await this.#fetchDevelopmentToken();
      return true;
    }
    const answer = pkce.answerIn(location.href);
    if (answer) {
      history.replaceState(null, "", pkce.withoutAnswer(location.href));
      if (answer.state.startsWith("popup.")) {
        new BroadcastChannel(CHANNEL).postMessage(answer);
        close();
        throw new SignInError("You are signed in. This window can be closed.");
      }
      await this.#finish(answer);
      return true;
    }
    // A page that was loaded again: the issuer's own session makes this a blink.
    if (sessionStorage.getItem(WAS_SIGNED_IN)) {
      sessionStorage.removeItem(WAS_SIGNED_IN);
      await this.signIn();
    }
    return false;
  }

  /** Leaves for the issuer. */
  async signIn() {
    location.assign(await this.#leaving(pkce.random()));
    await new Promise(() => {}); // the page is about to go
  }

  /** Signs in again in a window of its own, so that uploads of this page go on. */
  async signInAgain() {
    const state = `popup.${pkce.random()}`;
    // Opened before anything is awaited: later the browser would not believe that a click asked for it.
    const popup = open("about:blank", "heavylift-sign-in", "popup,width=520,height=680");
    const channel = new BroadcastChannel(CHANNEL);
    try {
      const url = await this.#leaving(state);
      if (!popup) {
        location.assign(url);
        return;
      }
      popup.location.replace(url);
      const answer = await new Promise((resolve) => {
        channel.onmessage = ({ data }) => {
          if (data?.state === state) resolve(data);
        };
      });
      await this.#finish(answer);
    } finally {
      channel.close();
    }
  }

  async signOut() {
    const endpoints = this.#endpoints;
    const refresh = this.#refresh;
    this.#forget("signed-out");
    sessionStorage.removeItem(WAS_SIGNED_IN);
    sessionStorage.removeItem(PENDING);
    for (const { reject } of this.#waiting.splice(0)) reject(new SignInError("You have signed out."));
    if (this.development) return;
    if (refresh && endpoints?.revocation_endpoint) {
      const body = new URLSearchParams({ token: refresh, client_id: this.#config.client_id });
      await fetch(endpoints.revocation_endpoint, { method: "POST", body }).catch(() => {});
    }
    if (this.#config.sign_out_url) location.assign(this.#config.sign_out_url);
  }

  /** A bearer token. `again`: the one given last was refused. Waits while nobody is signed in any more. */
  async token(again = false) {
    if (this.state === "signed-in" && !again && Date.now() / 1000 < this.#endsAt - RENEW_BEFORE_S) return this.#token;
    if (this.state === "signed-out") throw new SignInError("You are not signed in.");
    if (this.state === "signed-in") {
      this.#renewal ??= this.#renew().finally(() => {
        this.#renewal = null;
      });
      await this.#renewal;
    }
    if (this.state === "signed-in") return this.#token;
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  async #renew() {
    try {
      if (this.development) await this.#fetchDevelopmentToken();
      else if (this.#refresh) await this.#ask({ grant_type: "refresh_token", refresh_token: this.#refresh });
      else this.#forget("expired");
    } catch (error) {
      // Nobody answered: the old token may still do, and the next call asks again. A refusal ends the session.
      if (error instanceof SignInError || Date.now() / 1000 >= this.#endsAt) this.#forget("expired");
    }
  }

  async #fetchDevelopmentToken() {
    const answer = await fetch(this.#config.token_url);
    if (!answer.ok) throw new SignInError(`The local stack gives no token: ${answer.status}`);
    this.#take({ access_token: (await answer.json()).token });
  }

  async #discover() {
    if (this.#endpoints) return this.#endpoints;
    const url = `${this.#config.issuer_url}/.well-known/openid-configuration`;
    let found;
    try {
      const answer = await fetch(url);
      if (!answer.ok) throw new Error(String(answer.status));
      found = await answer.json();
    } catch (error) {
      throw new SignInError(`The issuer does not answer (${error.message}).`);
    }
    const same = (one) => String(one).replace(/\/$/, "");
    if (same(found.issuer) !== same(this.#config.issuer)) throw new SignInError("The issuer calls itself by another name.");
    this.#endpoints = found;
    return found;
  }

  get #redirectUri() {
    return this.#config.redirect_uri ?? location.origin + location.pathname;
  }

  async #leaving(state) {
    const endpoints = await this.#discover();
    const verifier = pkce.random();
    sessionStorage.setItem(PENDING, JSON.stringify({ state, verifier, hash: location.hash }));
    return pkce.authorizeUrl(endpoints.authorization_endpoint, {
      client_id: this.#config.client_id,
      redirect_uri: this.#redirectUri,
      scope: this.#config.scope,
      parameters: this.#config.parameters,
      state,
      code_challenge: await pkce.challenge(verifier),
    });
  }

  async #finish(answer) {
    const pending = JSON.parse(sessionStorage.getItem(PENDING) ?? "null");
    sessionStorage.removeItem(PENDING);
    if (!pending || pending.state !== answer.state) throw new SignInError("This sign-in was not begun here. Please try again.");
    if (answer.error) throw new SignInError(`The issuer refused: ${answer.description || answer.error}.`);
    if (answer.iss && answer.iss !== this.#config.issuer) throw new SignInError("The answer is another issuer's.");
    await this.#ask({
      grant_type: "authorization_code",
      code: answer.code,
      code_verifier: pending.verifier,
      redirect_uri: this.#redirectUri,
    });
    if (pending.hash && !answer.state.startsWith("popup.")) history.replaceState(null, "", pending.hash);
  }

  async #ask(fields) {
    const endpoints = await this.#discover();
    const body = new URLSearchParams({ ...fields, client_id: this.#config.client_id });
    const answer = await fetch(endpoints.token_endpoint, { method: "POST", body });
    if (answer.status >= 400 && answer.status < 500) throw new SignInError("The issuer did not take the sign-in. Please try again.");
    if (!answer.ok) throw new Error(`The issuer answered ${answer.status}.`);
    this.#take(await answer.json());
  }

  #take({ access_token, refresh_token, expires_in }) {
    if (!access_token) throw new SignInError("The issuer gave no access token.");
    this.#token = access_token;
    this.#refresh = refresh_token ?? this.#refresh;
    this.claims = pkce.claims(access_token);
    const lifetime = Number(expires_in) || (this.claims.exp ? this.claims.exp - Date.now() / 1000 : 3600);
    this.#endsAt = Date.now() / 1000 + lifetime;
    if (!this.development) sessionStorage.setItem(WAS_SIGNED_IN, "1");
    this.#become("signed-in");
    for (const { resolve } of this.#waiting.splice(0)) resolve(access_token);
  }

  #forget(state) {
    this.#token = null;
    this.#refresh = null;
    this.#endsAt = 0;
    if (state === "signed-out") this.claims = {};
    this.#become(state);
  }

  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new Event("change"));
  }
}
