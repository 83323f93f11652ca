// Speed and time left, out of a number that grows in steps. No I/O here.
//
// Bytes that have to go again are not taken back from what is shown: the shown number waits until it is overtaken. Speed
// is that of the last seconds, smoothed; the time left follows it slowly, so that neither jumps.

const WINDOW_S = 10; // a part of 64 MiB may arrive in bursts
const SAMPLE_S = 0.25;
const FIRST_S = 1; // before that a speed is a guess
const SMOOTH_S = 4; // time constant of what is shown
const STALLED_S = 15; // without a byte for so long nobody knows when it ends

export class Meter {
  #clock;
  #samples = [];
  #speed = null;
  #at = null;
  #moved = null;

  constructor(clock) {
    this.#clock = clock;
  }

  /** `bytes` so far that went over the wire; what was there before must not be among them. */
  saw(bytes) {
    const now = this.#clock.now();
    const last = this.#samples.at(-1);
    if (last && bytes > last.bytes) this.#moved = now;
    this.#moved ??= now;
    if (last && now - last.at < SAMPLE_S) return;
    this.#samples.push({ at: now, bytes });
    while (this.#samples.length > 2 && now - this.#samples[1].at > WINDOW_S) this.#samples.shift();
    const [first] = this.#samples;
    if (now - first.at < FIRST_S) return;
    const speed = Math.max(0, (bytes - first.bytes) / (now - first.at));
    const share = this.#speed === null ? 1 : 1 - Math.exp(-(now - this.#at) / SMOOTH_S);
    this.#speed = (this.#speed ?? 0) + share * (speed - (this.#speed ?? 0));
    this.#at = now;
  }

  /** Nothing moves on purpose: paused, or at its end. */
  rest() {
    this.#samples = [];
    this.#speed = this.#at = this.#moved = null;
  }

  /** Bytes a second, null while nobody knows. */
  get speed() {
    if (this.#speed === null) return null;
    return this.#clock.now() - this.#moved > STALLED_S ? 0 : this.#speed;
  }

  /** Seconds for `bytes` more, null while nobody knows. */
  left(bytes) {
    if (bytes <= 0) return 0;
    const speed = this.speed;
    return speed ? bytes / speed : null;
  }
}
