// How long to wait before the next try; time and chance, replaceable. The Python client's backoff.py waits the same.

const BASE_S = 0.3;
const CAP_S = 20;
const RETRY_AFTER_MAX_S = 300; // beyond this it is a mistake or an attack, not a schedule
const POLL_FIRST_S = 0.2;
const POLL_LAST_S = 2;
const POLL_GROWTH = 1.5;

/** Full jitter, before try `attempt` + 1 (from 0): those that failed together do not come back together. */
export const fullJitter = (attempt, random) => random * Math.min(CAP_S, BASE_S * 2 ** Math.min(attempt, 16));

/** Seconds that a Retry-After header asks for (RFC 9110: seconds or a date), null if it says nothing. */
export function retryAfterSeconds(value, now_ms = Date.now()) {
  if (!value) return null;
  if (/^\s*\d+\s*$/.test(value)) return Math.min(RETRY_AFTER_MAX_S, Number(value));
  const at = Date.parse(value);
  return Number.isNaN(at) ? null : Math.min(RETRY_AFTER_MAX_S, Math.max(0, (at - now_ms) / 1000));
}

/** The wait before another try: what the server asks for, else full jitter, whichever is longer. */
export const pauseSeconds = (attempt, random, retry_after = null) => Math.max(retry_after ?? 0, fullJitter(attempt, random));

/** The wait after poll number `polls` (from 0) of something that is not final yet. */
export const pollSeconds = (polls) => Math.min(POLL_LAST_S, POLL_FIRST_S * POLL_GROWTH ** Math.min(polls, 32));

/** Time and chance of a browser. */
export const browserClock = {
  now: () => performance.now() / 1000,
  random: () => Math.random(),
  sleep(seconds, signal) {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const cut = () => {
        clearTimeout(timer);
        reject(signal.reason);
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener("abort", cut);
        resolve();
      }, seconds * 1000);
      signal?.addEventListener("abort", cut, { once: true });
    });
  },
};
