// Long loops on the page's thread, in pieces: a person who scrolls or types must not wait for thousands of files.

const PIECE_MS = 8; // half a frame

const turn =
  typeof globalThis.scheduler?.yield === "function"
    ? () => globalThis.scheduler.yield()
    : () => new Promise((resolve) => setTimeout(resolve, 0));

/** `await breathe()` in a loop: returns at once until a few milliseconds have gone by, then gives the page its turn. */
export function breather() {
  let since = performance.now();
  return async () => {
    if (performance.now() - since < PIECE_MS) return;
    await turn();
    since = performance.now();
  };
}
