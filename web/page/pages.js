// A list of the API, page by page: newer and older, filters, refreshing what is shown.

/** One filtered list. `ask(query)` -> {"items","next_token"}; changes call `changed`. */
export class Pages {
  #ask;
  #changed;
  #tokens = [null];
  #asked = 0;
  page = 0;
  items = null;
  more = false;
  error = null;
  busy = false;

  constructor(ask, changed) {
    this.#ask = ask;
    this.#changed = changed;
  }

  /** From the first page again, as after a change of filters. */
  async restart() {
    this.#tokens = [null];
    this.page = 0;
    this.items = null;
    await this.refresh();
  }

  async turn(by) {
    this.page += by;
    this.items = null;
    await this.refresh();
  }

  /** The page that is shown, as it is now. Errors stand in `error`. */
  async refresh() {
    this.#asked += 1;
    const number = this.#asked;
    this.busy = true;
    this.#changed();
    try {
      // A filter may leave a whole stretch of the index out: an empty page with a token is no end.
      let token = this.#tokens[this.page] ?? undefined;
      let answer;
      for (let tried = 0; tried < 20; tried += 1) {
        answer = await this.#ask({ next_token: token });
        if (number !== this.#asked) return;
        if (answer.items.length || !answer.next_token) break;
        token = answer.next_token;
      }
      this.items = answer.items;
      this.more = Boolean(answer.next_token);
      this.#tokens[this.page + 1] = answer.next_token;
      this.error = null;
    } catch (error) {
      if (number !== this.#asked || error.name === "AbortError") return;
      this.error = error;
    } finally {
      if (number === this.#asked) {
        this.busy = false;
        this.#changed();
      }
    }
  }
}
