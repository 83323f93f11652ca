// Whether the world is there. The browser's word for being offline is a hint, not a verdict: a server on the same machine
// answers all the same. So nothing waits for it; but while it says offline no patience is lost, and when it says online
// again, whoever sleeps between two tries wakes.

const AWAY_AFTER_MISSES = 3;

export class Presence extends EventTarget {
  #clock;
  #network;
  #misses = 0;
  #online = true;
  #sleepers = new Set();
  #offlineSince = null;
  #offline_s = 0;
  #changed = () => this.#look();

  /** @param {import("./index.d.ts").Network} network */
  constructor(clock, network) {
    super();
    this.#clock = clock;
    this.#network = network;
    network.addEventListener("online", this.#changed);
    network.addEventListener("offline", this.#changed);
    this.#look();
  }

  get online() {
    return this.#online;
  }

  close() {
    this.#network.removeEventListener("online", this.#changed);
    this.#network.removeEventListener("offline", this.#changed);
  }

  /** Something answered. */
  reached() {
    this.#misses = 0;
    this.#judge();
  }

  /** Nothing answered. */
  missed() {
    this.#misses += 1;
    this.#judge();
  }

  /** A sleep between two tries; ends early when the network comes back. Rejects with the signal's reason. */
  async pause(seconds, signal) {
    const wake = new AbortController();
    this.#sleepers.add(wake);
    try {
      await this.#clock.sleep(seconds, signal ? AbortSignal.any([signal, wake.signal]) : wake.signal);
    } catch (error) {
      if (signal?.aborted || !wake.signal.aborted) throw error;
      await this.#clock.sleep(0.05 + 0.5 * this.#clock.random(), signal); // not all in the same moment
    } finally {
      this.#sleepers.delete(wake);
    }
  }

  /** {left}: whether less than `patience_s` seconds have gone by from now on, offline time not counted. */
  patience(patience_s) {
    const began = this.#clock.now() - this.#offlineSoFar();
    const failing = () => this.#clock.now() - this.#offlineSoFar() - began;
    return {
      get left() {
        return failing() < patience_s;
      },
      get failing_s() {
        return failing();
      },
    };
  }

  #offlineSoFar() {
    return this.#offline_s + (this.#offlineSince === null ? 0 : this.#clock.now() - this.#offlineSince);
  }

  #look() {
    const offline = this.#network.onLine === false;
    if (offline && this.#offlineSince === null) this.#offlineSince = this.#clock.now();
    if (!offline && this.#offlineSince !== null) {
      this.#offline_s = this.#offlineSoFar();
      this.#offlineSince = null;
      this.#misses = 0;
      for (const sleeper of this.#sleepers) sleeper.abort();
    }
    this.#judge();
  }

  #judge() {
    const online = this.#misses < AWAY_AFTER_MISSES && (this.#offlineSince === null || this.#misses === 0);
    if (online === this.#online) return;
    this.#online = online;
    this.dispatchEvent(new Event("change"));
  }
}
