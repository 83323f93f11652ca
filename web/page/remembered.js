// Ids of batches and archives that were begun in this browser, for the API has no list of them: an id, what the folder
// or the archive is called, and when; apart for each account, and gone with its sign-out. Never a token.

const LIMIT = 50;

export class Remembered {
  #key;
  #storage;

  /** `storage`: localStorage, or what has its face. */
  constructor(kind, account, storage = globalThis.localStorage) {
    this.#key = `heavylift.${kind}.${account}`;
    this.#storage = storage;
  }

  /** [{"id","name","at"}], the newest first. */
  all() {
    try {
      const found = JSON.parse(this.#storage.getItem(this.#key) ?? "[]");
      return Array.isArray(found) ? found.filter((one) => typeof one?.id === "string") : [];
    } catch {
      return [];
    }
  }

  add(id, name) {
    this.#write([{ id, name, at: new Date().toISOString() }, ...this.all().filter((one) => one.id !== id)].slice(0, LIMIT));
  }

  forget(id) {
    this.#write(this.all().filter((one) => one.id !== id));
  }

  clear() {
    this.#write([]);
  }

  #write(entries) {
    try {
      this.#storage.setItem(this.#key, JSON.stringify(entries));
    } catch {
      // A browser that keeps nothing shows what this page knows, no more.
    }
  }
}
