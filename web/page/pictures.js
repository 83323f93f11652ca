// Signed addresses of pictures change with each answer; an img that shows the same picture keeps the one it has.

const KEEP_MS = 600_000; // shorter than the 900 s that a signature lives

/** Hands the same address out for the same object while its signature is young. */
export class Pictures {
  #known = new Map();
  #now;

  constructor(now = Date.now) {
    this.#now = now;
  }

  /** The address to show: the first one that came for this object within ten minutes. */
  steady(url) {
    const object = url.split("?")[0];
    const kept = this.#known.get(object);
    if (kept && kept.until > this.#now()) return kept.url;
    if (this.#known.size > 2_000) this.#known.clear();
    this.#known.set(object, { url, until: this.#now() + KEEP_MS });
    return url;
  }
}
