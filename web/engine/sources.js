// What a page hands over (files, folders, drops, handles) as a plain list of files with paths.

import { breather } from "./breath.js";
import { UploadError } from "./errors.js";

const HANDLE_MS_MAX = 2_000; // a browser that never answers must not hold up a drop
const HANDLES_AT_ONCE = 32; // getFile() is a round trip to the browser's process

/**
 * @typedef {{file: Blob, name: string, relative_path: string | null, handle: object | null}} Found
 * @typedef {{found: Found[], folder: string | null, handles: object[], problems: {path: string, message: string}[]}} Collected
 */

const isHandle = (one) => typeof one?.getFile === "function" || (typeof one?.values === "function" && !one[Symbol.iterator]); // lists have values, too
const isEntry = (one) => typeof one?.createReader === "function" || (one?.isFile === true && typeof one.file === "function");

/**
 * Begin to take in what was given. A drop's DataTransfer is read before this returns its promise, because the browser
 * empties it afterwards. @returns {Promise<Collected>} rejects with UploadError `nothing_to_upload`
 */
export function collect(what) {
  return gather(listed(what));
}

/** The things inside of `what`, taken in this very turn. */
function listed(what) {
  if (typeof DataTransfer !== "undefined" && what instanceof DataTransfer) return dropped(what);
  if (what instanceof Blob || isHandle(what) || isEntry(what)) return [what];
  if (typeof what?.[Symbol.iterator] === "function") return [...what];
  if (typeof what?.length === "number") return Array.from(what);
  throw new UploadError("nothing_to_upload", "This is nothing that can be uploaded.");
}

function dropped(transfer) {
  const things = [];
  for (const item of transfer.items ?? []) {
    if (item.kind !== "file") continue;
    const entry = item.webkitGetAsEntry?.() ?? null;
    const file = item.getAsFile();
    // A handle can be kept for a later visit; where there is none, the entry or the file does.
    const handle = item.getAsFileSystemHandle?.().catch(() => null);
    const late = handle && new Promise((resolve) => setTimeout(resolve, HANDLE_MS_MAX, null));
    things.push(handle ? Promise.race([handle, late]).then((one) => one ?? entry ?? file) : (entry ?? file));
  }
  return things.length ? things : [...(transfer.files ?? [])];
}

async function gather(things) {
  const breathe = breather();
  const out = { found: [], folder: null, handles: [], problems: [] };
  const roots = (await Promise.all(things)).filter(Boolean);
  const folders = roots.filter((one) => typeof one.values === "function" || typeof one.createReader === "function");
  // One folder alone is the root of the paths; of several, each is a folder below it.
  const alone = roots.length === 1 && folders.length === 1;
  if (alone) out.folder = folders[0].name;
  for (const one of roots) {
    const prefix = alone || !folders.includes(one) ? "" : `${one.name}/`;
    if (isHandle(one)) {
      out.handles.push(one);
      await fromHandle(one, prefix, out, breathe);
    } else if (isEntry(one)) {
      await fromEntry(one, prefix, out, breathe);
    } else {
      const { file, ...named } = one instanceof Blob ? { file: one } : one;
      if (!(file instanceof Blob)) throw new UploadError("nothing_to_upload", "This is nothing that can be uploaded.");
      const path = named.relative_path ?? file.webkitRelativePath ?? "";
      const name = named.name ?? file.name ?? path.split("/").at(-1) ?? "";
      out.found.push({ file, name: name || "unnamed", relative_path: path || null, handle: named.handle ?? null });
    }
    await breathe();
  }
  if (out.folder === null) sharedRoot(out);
  return out;
}

/** Files of `<input webkitdirectory>` name their folder in every path: it becomes the batch's name. */
function sharedRoot(out) {
  const first = out.found[0]?.relative_path?.split("/", 1)[0];
  if (!first || !out.found.every((one) => one.relative_path?.startsWith(`${first}/`))) return;
  out.folder = first;
  for (const one of out.found) one.relative_path = one.relative_path.slice(first.length + 1);
}

async function fromHandle(root, prefix, out, breathe) {
  const wanted = [];
  const walk = async (handle, path) => {
    if (handle.kind === "file") {
      wanted.push({ handle, path });
    } else {
      try {
        for await (const [name, child] of handle.entries()) {
          await walk(child, `${path}${name}${child.kind === "directory" ? "/" : ""}`);
          await breathe();
        }
      } catch (error) {
        out.problems.push({ path, message: `This folder cannot be read: ${error.message}` });
      }
    }
  };
  await walk(root, root.kind === "file" ? prefix + root.name : prefix);
  for (let at = 0; at < wanted.length; at += HANDLES_AT_ONCE) {
    const files = await Promise.all(
      wanted.slice(at, at + HANDLES_AT_ONCE).map(async ({ handle, path }) => {
        try {
          const file = await handle.getFile();
          return { file, name: file.name, relative_path: root.kind === "file" && !prefix ? null : path, handle };
        } catch (error) {
          out.problems.push({ path, message: `This file cannot be read: ${error.message}` });
          return null;
        }
      }),
    );
    out.found.push(...files.filter(Boolean));
    await breathe();
  }
}

async function fromEntry(root, prefix, out, breathe) {
  const fileOf = (entry) => new Promise((resolve, reject) => entry.file(resolve, reject));
  // readEntries hands out 100 at a time in Chromium, and an empty list at the end.
  const some = (reader) => new Promise((resolve, reject) => reader.readEntries(resolve, reject));
  const walk = async (entry, path) => {
    try {
      if (entry.isFile) {
        const file = await fileOf(entry);
        out.found.push({ file, name: file.name, relative_path: entry === root && !prefix ? null : path, handle: null });
      } else {
        const reader = entry.createReader();
        for (let children = await some(reader); children.length; children = await some(reader)) {
          for (const child of children) await walk(child, `${path}${child.name}${child.isFile ? "" : "/"}`);
        }
      }
    } catch (error) {
      out.problems.push({ path, message: `This cannot be read: ${error.message}` });
    }
    await breathe();
  };
  await walk(root, root.isFile ? prefix + root.name : prefix);
}

/** Text that any JSON reader takes: lone surrogates become U+FFFD. */
export const clean = (text) => (text.toWellFormed ? text.toWellFormed() : text.replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, "\ufffd"));
