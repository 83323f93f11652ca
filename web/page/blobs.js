// Pictures that need a token: fetched, and shown as blobs. So many are kept, the rest is let go.

/** Object URLs by name; `close` frees all of them. */
export class Blobs {
  #urls = new Map();
  #pending = new Map();
  #limit;
  #signal;

  constructor(signal, limit = 200) {
    this.#limit = limit;
    this.#signal = signal;
    signal.addEventListener("abort", () => {
      for (const url of this.#urls.values()) URL.revokeObjectURL(url);
      this.#urls.clear();
    }, { once: true });
  }

  /** The URL if it is there. */
  have(name) {
    return this.#urls.get(name) ?? null;
  }

  /** The URL, fetched once by `fetch`; rejects as it does. */
  async get(name, fetch) {
    const kept = this.#urls.get(name);
    if (kept) {
      // The youngest is at the end.
      this.#urls.delete(name);
      this.#urls.set(name, kept);
      return kept;
    }
    if (!this.#pending.has(name)) {
      this.#pending.set(name, fetch().then((blob) => {
        this.#signal.throwIfAborted();
        const url = URL.createObjectURL(blob);
        this.#urls.set(name, url);
        while (this.#urls.size > this.#limit) {
          const [oldest, gone] = this.#urls.entries().next().value;
          this.#urls.delete(oldest);
          URL.revokeObjectURL(gone);
        }
        return url;
      }).finally(() => this.#pending.delete(name)));
    }
    return this.#pending.get(name);
  }
}
