// Asks again and again while a view is open: rarely when nothing changes, not at all while nobody looks.

/**
 * Calls `ask` until it returns a falsy number of seconds or `signal` ends. It returns in how many seconds it wants to be
 * asked again. Trouble is handed to `onTrouble` (null when it is over) and asked again after a growing pause.
 */
export async function keepAsking(ask, signal, onTrouble) {
  let failed = 0;
  while (!signal.aborted) {
    let seconds;
    try {
      seconds = await ask();
      if (failed) onTrouble(null);
      failed = 0;
    } catch (error) {
      if (signal.aborted) return;
      onTrouble(error);
      if (error.status >= 400 && error.status < 500 && error.status !== 429) return;
      failed += 1;
      seconds = Math.min(30, 2 ** failed);
    }
    if (!seconds) return;
    await sleep(seconds, signal);
    await visible(signal);
  }
}

function sleep(seconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}

function visible(signal) {
  if (!document.hidden || signal.aborted) return undefined;
  return new Promise((resolve) => {
    const look = () => {
      if (!document.hidden || signal.aborted) {
        document.removeEventListener("visibilitychange", look);
        resolve();
      }
    };
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", look, { once: true });
  });
}
