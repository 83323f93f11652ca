// Calls of the API: a token in the header, never in an address; errors in words.

const RETRY_STATUS = new Set([429, 502, 503, 504]);
const RETRIES = 3;

/** A refusal: `status`, the problem's `code`, and a sentence. */
export class ApiError extends Error {
  constructor(status, body) {
    super(body?.detail || body?.message || `The server answered ${status}.`);
    this.status = status;
    this.code = body?.code ?? "";
    this.retryable = body?.retryable ?? status >= 500;
    this.body = body ?? {};
  }
}

/** No answer came. */
export class Unreachable extends Error {
  constructor() {
    super("The server cannot be reached. Trying again.");
    this.retryable = true;
  }
}

const pause = (seconds, signal) =>
  new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
  });

export class Api {
  #base;
  #session;

  constructor(base, session) {
    this.#base = base;
    this.#session = session;
  }

  async #send(method, path, { query, body, signal, accept, key } = {}, again = false) {
    const url = new URL(this.#base + path, location.href);
    for (const [name, value] of Object.entries(query ?? {})) {
      if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
    }
    const headers = { authorization: `Bearer ${await this.#session.token(again)}` };
    signal?.throwIfAborted();
    if (body !== undefined) headers["content-type"] = "application/json";
    if (accept) headers.accept = accept;
    if (key) headers["idempotency-key"] = key;
    let answer;
    try {
      answer = await fetch(url, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal });
    } catch (error) {
      signal?.throwIfAborted();
      throw error instanceof TypeError ? new Unreachable() : error;
    }
    if (answer.status === 401 && !again) return this.#send(method, path, { query, body, signal, accept, key }, true);
    return answer;
  }

  /** The response, tried again where the world is at fault: reads, and what carries an idempotency key. */
  async #answer(method, path, options = {}) {
    const repeatable = method === "GET" || method === "DELETE" || options.key;
    for (let tried = 0; ; tried += 1) {
      const answer = await this.#send(method, path, options);
      if (answer.ok) return answer;
      const error = new ApiError(answer.status, await answer.json().catch(() => null));
      if (!repeatable || tried >= RETRIES || !RETRY_STATUS.has(answer.status)) throw error;
      const wanted = Number(answer.headers.get("retry-after")) || 0;
      await pause(Math.max(wanted, Math.random() * Math.min(8, 0.5 * 2 ** tried)), options.signal);
    }
  }

  /** The decoded body; null where there is none. */
  async call(method, path, options) {
    const answer = await this.#answer(method, path, options);
    return answer.status === 204 ? null : answer.json();
  }

  get(path, query, signal) {
    return this.call("GET", path, { query, signal });
  }

  /** A POST that is done once, however often it has to be sent. */
  post(path, body, signal) {
    return this.call("POST", path, { body, signal, key: crypto.randomUUID() });
  }

  remove(path, query) {
    return this.call("DELETE", path, { query });
  }

  /** Bytes that the API itself serves, such as a rendered picture. */
  async blob(path, { query, accept, signal } = {}) {
    return (await this.#answer("GET", path, { query, accept, signal })).blob();
  }

  /** DICOM JSON. */
  async dicom(path, query, signal) {
    const answer = await this.#answer("GET", path, { query, signal, accept: "application/dicom+json" });
    return answer.status === 204 ? [] : answer.json();
  }

  /** A signed address of S3, which carries its own proof: our token must not go there. */
  async link(path, query) {
    return (await this.get(path, { redirect: "false", ...query })).url;
  }

  /** JSON that lies in S3. */
  async stored(path, query) {
    const answer = await fetch(await this.link(path, query));
    if (!answer.ok) throw new ApiError(answer.status, null);
    return answer;
  }
}
