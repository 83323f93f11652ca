// Web Locks between the tabs of a browser. The server bears two senders of one session (the same bytes, proven); this
// saves them from doing everything twice.

/** `work()` while nobody else holds `name`; `told(true)` when it has to wait, `told(false)` when that is over. */
export async function alone(locks, name, signal, told, work) {
  if (!locks) return work();
  let ran = false;
  const run = () => {
    ran = true;
    return work();
  };
  const now = await locks.request(name, { ifAvailable: true }, (lock) => (lock ? run() : undefined));
  if (ran) return now;
  told(true);
  return locks.request(name, { signal }, () => {
    told(false);
    return run();
  });
}
