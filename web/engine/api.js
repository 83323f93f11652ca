// The heavylift API: JSON in, JSON out, tried again while the world is at fault.

import { pauseSeconds, retryAfterSeconds } from "./backoff.js";
import { AnswerError, ApiError, NetworkError, UploadError } from "./errors.js";
import { worldsFault } from "./verdict.js";

// A function that crashes on a request will crash on it again; the gateway's own 502..504 are about time.
const CRASH_TRIES_MAX = 6;
// What the gateway says by status alone: its answers are {"message"} without a code.
const GATEWAY_CODES = {
  400: "bad_request",
  401: "unauthorized",
  403: "forbidden",
  404: "not_found",
  413: "payload_too_large",
  429: "too_many_requests",
  500: "internal_error",
  502: "bad_gateway",
  503: "unavailable",
  504: "gateway_timeout",
};
const IN_FLIGHT = "idempotency_in_flight";

/** An id as one path segment. */
export const segment = encodeURIComponent;

/** The problem that an answer states: RFC 9457 from a function, {"message"} from the gateway. */
export function errorOf({ status, text }) {
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    // a proxy's page
  }
  const code = body?.code ?? GATEWAY_CODES[status] ?? `http_${status}`;
  const message = body?.detail ?? body?.title ?? body?.message ?? "The API gave no reason.";
  return new ApiError(status, String(code), String(message), body, worldsFault(status) || code === IN_FLIGHT || status === 401);
}

/** Whether the same call is worth another try; `tries` counts those that failed, this one included. */
export function maySucceedLater(error, tries, failing_s, patience_s) {
  if (error.status === 500 && tries >= CRASH_TRIES_MAX) return false;
  return (worldsFault(error.status) || error.code === IN_FLIGHT) && failing_s < patience_s;
}

export class Api {
  #base;
  #token;
  #transport;
  #clock;
  #presence;
  #patience_s;

  constructor({ api, token, transport, clock, presence, patience_s }) {
    this.#base = api.replace(/\/+$/, "");
    this.#token = token;
    this.#transport = transport;
    this.#clock = clock;
    this.#presence = presence;
    this.#patience_s = patience_s;
  }

  async bearer(again = false) {
    if (typeof this.#token !== "function") return this.#token;
    try {
      return await this.#token(again);
    } catch (error) {
      throw new UploadError("unauthorized", `There is no token for the API: ${error?.message ?? error}`, true);
    }
  }

  /**
   * One call: {status, body, headers, asked_at}. `key`: an Idempotency-Key, so that a repeat of a lost answer does nothing
   * twice. Rejects with ApiError, NetworkError (patience ran out), AnswerError, or the signal's reason.
   */
  async call(method, path, { query = {}, body, key, signal } = {}) {
    const given = Object.entries(query).filter(([, value]) => value != null);
    const url = this.#base + path + (given.length ? `?${new URLSearchParams(given)}` : "");
    const headers = { accept: "application/json, application/problem+json" };
    if (body !== undefined) headers["content-type"] = "application/json";
    if (key) headers["idempotency-key"] = key;
    const payload = body === undefined ? null : JSON.stringify(body);
    const failing = this.#presence.patience(this.#patience_s);
    let renewed = false;
    for (let tries = 0; ; ) {
      headers.authorization = `Bearer ${await this.bearer(renewed && tries === 0)}`;
      const asked_at = this.#clock.now();
      let failure;
      let wanted_s = null;
      try {
        const reply = await this.#transport.request(method, url, headers, payload, signal);
        if (!worldsFault(reply.status)) this.#presence.reached();
        if (reply.status >= 200 && reply.status < 300) {
          return { status: reply.status, body: parsed(reply), headers: reply.headers, asked_at };
        }
        failure = errorOf(reply);
        if (reply.status === 401 && typeof this.#token === "function" && !renewed) {
          renewed = true;
          continue;
        }
        wanted_s = retryAfterSeconds(reply.headers.get("retry-after"));
      } catch (error) {
        if (!(error instanceof NetworkError)) throw error;
        this.#presence.missed();
        failure = error;
      }
      tries += 1;
      const again = failure instanceof NetworkError ? failing.left : failing.left && maySucceedLater(failure, tries, 0, 1);
      if (!again) throw failure;
      await this.#presence.pause(pauseSeconds(tries - 1, this.#clock.random(), wanted_s), signal);
    }
  }
}

function parsed({ status, text }) {
  if (!text) return null;
  try {
    return JSON.parse(text);
  } catch {
    throw new AnswerError(`The API answered ${status} with a body that is no JSON.`);
  }
}
