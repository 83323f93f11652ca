// How many requests are on the wire at once: more while that pays, fewer when the store says so. No I/O here.
//
// The controller climbs, as the Python client's pace.py does: every epoch it compares what went out per second with the
// epoch before. One more step up is kept only if it brought something. A SlowDown halves the number, once an epoch.

const FIRST = 4;
const EPOCH_S = 2; // long enough that one slow part does not decide
const PAYS = 1.1; // throughput is noisy; a step that brings less than this brings nothing
const HOLD_EPOCHS = 8; // before a step that did not pay is tried again
const HOLD_AFTER_SLOW_EPOCHS = 2;
/** Browsers open six connections to a host over HTTP/1.1, which is what S3 speaks; more would only wait inside. */
export const MOST = 6;

/** The trend after an epoch with `rate` bytes/s; `busy`: whether all allowed requests were in use. */
export function afterEpoch(trend, rate, busy) {
  if (trend.before !== null && rate < trend.rate * PAYS) {
    return { ...trend, limit: trend.before, before: null, rate, hold: HOLD_EPOCHS };
  }
  if (trend.hold) return { ...trend, before: null, rate, hold: trend.hold - 1 };
  if (!busy || trend.limit >= trend.most) return { ...trend, before: null, rate };
  const step = Math.max(1, Math.floor(trend.limit / 4));
  return { ...trend, limit: Math.min(trend.most, trend.limit + step), before: trend.limit, rate };
}

/** The trend after the store asked for less. */
export const slowed = (trend) => ({
  ...trend,
  limit: Math.max(1, Math.floor(trend.limit / 2)),
  before: null,
  hold: HOLD_AFTER_SLOW_EPOCHS,
});

/** Counts the requests on the wire, and decides how many there may be. */
export class Pace {
  #clock;
  #trend;
  #onWire = 0;
  #peak = 0;
  #bytes = 0;
  #began = null;
  #slowed = false;

  constructor(most, clock) {
    this.#clock = clock;
    this.#trend = { limit: Math.min(FIRST, most), most, before: null, rate: 0, hold: 0 };
  }

  get limit() {
    return this.#trend.limit;
  }

  get onWire() {
    return this.#onWire;
  }

  /** Small requests are mostly waiting: begin with all that the browser allows. */
  forSmall() {
    if (this.#began === null) this.#trend = { ...this.#trend, limit: this.#trend.most };
  }

  /** Take a place on the wire if one is free. */
  tryEnter() {
    if (this.#onWire >= this.#trend.limit) return false;
    this.#onWire += 1;
    this.#peak = Math.max(this.#peak, this.#onWire);
    this.#began ??= this.#clock.now();
    return true;
  }

  /** Give the place back: what went out, and whether the store asked for less. */
  leave(sent_bytes, slow_down) {
    this.#onWire -= 1;
    this.#bytes += sent_bytes;
    if (slow_down && !this.#slowed) {
      this.#slowed = true; // those that were on the wire with it say the same
      this.#trend = slowed(this.#trend);
    }
    const lasted_s = this.#clock.now() - this.#began;
    if (lasted_s < EPOCH_S) return;
    if (!this.#slowed) this.#trend = afterEpoch(this.#trend, this.#bytes / lasted_s, this.#peak >= this.#trend.limit);
    this.#began = this.#clock.now();
    this.#bytes = 0;
    this.#peak = this.#onWire;
    this.#slowed = false;
  }
}
