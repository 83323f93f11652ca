// What a page does with the engine, and what a test wants to know of it.
import { createUploader, fingerprintOf } from "/web/engine/index.js";

const files = document.querySelector("#files");
const folder = document.querySelector("#folder");
const tasks = []; // long ones of the page's thread
new PerformanceObserver((list) => tasks.push(...list.getEntries().map((one) => Math.round(one.duration)))).observe({ type: "longtask" });

const told = (one) => ({
  name: one.name, state: one.state, error: one.error, notice: one.notice, upload_id: one.upload_id, file_id: one.file_id,
  bytes_resumed: one.bytes_resumed, progress: one.progress, status: one.record?.status ?? null, relative_path: one.relative_path,
});

window.page = {
  fingerprintOf,
  tasks,
  tell: told,
  /** An uploader with its history: every number that was shown, every state of the connection. */
  begin(options) {
    const uploader = createUploader(options);
    const seen = { bytes: [], online: [], backwards: 0 };
    uploader.addEventListener("change", () => {
      const { bytes } = uploader.progress;
      if (bytes < seen.bytes.at(-1)) seen.backwards += 1;
      seen.bytes.push(bytes);
    });
    uploader.addEventListener("connection", ({ detail }) => seen.online.push(detail.online));
    Object.assign(window, { uploader, seen });
    return uploader;
  },
  /** How many uploads another page of this browser would be shown now. */
  async noted(options) {
    const other = createUploader(options);
    const kept = await other.resumable();
    other.close();
    return kept.length;
  },
  /** What was chosen, added and waited for. */
  async add(which, options) {
    const added = await window.uploader.add((which === "folder" ? folder : files).files, options);
    window.added = added;
    return added;
  },
  async ended({ files: all, batch }) {
    if (batch) await batch.finished;
    else await Promise.all(all.map((one) => one.finished));
    await new Promise((resolve) => setTimeout(resolve, 200)); // the last tasks are told of late
    const long_tasks = tasks.filter((ms) => ms > 50); // before the answer to the test is made, which is one itself
    return { long_tasks, files: all.map(told), batch: batch && { state: batch.state, error: batch.error, batch_id: batch.batch_id, progress: batch.progress } };
  },
};
