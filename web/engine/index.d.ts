/**
 * The upload engine: files and folders from a browser straight into S3, by URLs that the heavylift API signs.
 *
 * Plain ES modules, no build step, no framework: `import { createUploader } from "/web/engine/index.js"`.
 * Names that mirror the API are in snake_case, methods in camelCase. docs/browser.md says how a page uses it.
 */

/** What a file is doing. `done`, `failed` and `cancelled` are ends; `retry()` leaves `failed`. */
export type FileState =
  | "queued" // waits for its turn, or for another tab that sends the same file
  | "preparing" // is read: fingerprint, an open session of these bytes, digests of what is there already
  | "uploading"
  | "paused"
  | "assembling" // all bytes are in S3, the parts are being joined
  | "processing" // the server looks at the file (only with `follow`)
  | "done"
  | "failed"
  | "cancelled";

/** What a batch (a folder) is doing. */
export type BatchState = "queued" | "preparing" | "uploading" | "paused" | "processing" | "done" | "failed" | "cancelled";

/** Never moves back but when a file starts again from nothing. Times are smoothed; null while nothing is known. */
export interface Progress {
  readonly bytes: number;
  readonly size: number;
  /** `bytes` / `size`, 0..1; an empty file is 1 when it is there. */
  readonly ratio: number;
  readonly speed_bytes_s: number | null;
  readonly seconds_left: number | null;
}

export interface TotalProgress extends Progress {
  readonly files: number;
  readonly files_done: number;
  readonly files_failed: number;
}

/** A failure in words. `code` is stable: the API's, S3's, or one of the engine's (docs/browser.md lists them). */
export interface UploadProblem {
  readonly code: string;
  readonly message: string;
  /** Whether `retry()` may help. */
  readonly retryable: boolean;
}

/** What is said about files when they are announced; as in `POST /v1/uploads` and `POST /v1/batches`. */
export interface Declared {
  kind?: "image" | "raw" | "dicom" | "table" | "json" | "text" | "archive" | "other";
  type?: string;
  data_type?: string;
  description?: string;
  metadata?: Record<string, unknown>;
  rules?: unknown;
  /** Of batches only. */
  facility?: string;
}

export interface AddOptions extends Declared {
  /**
   * `"auto"` (default): a folder, or more than 20 files at once, become one batch; `true`: always; `false`: never;
   * text: go on with the open batch of that id, sending what it has not received.
   */
  batch?: "auto" | boolean | string;
  /** What a batch is called on the page; the folder's name by default. */
  name?: string;
}

/**
 * What can be added. A `DataTransfer` (of a drop) has to be given in the event's own turn: the browser empties it
 * afterwards. Handles are kept, so that an upload can go on after a reload without choosing the file again.
 */
export type Addable =
  | File
  | Blob
  | FileList
  | DataTransfer
  | FileSystemEntry
  | FileSystemHandle
  | Iterable<File | Blob | FileSystemEntry | FileSystemHandle | NamedFile>;

/** A file under a path of the caller's choice. */
export interface NamedFile {
  file: Blob;
  name?: string;
  relative_path?: string;
  handle?: FileSystemFileHandle;
}

export interface Added {
  readonly files: readonly UploadFile[];
  /** The batch that they form, or null. */
  readonly batch: UploadBatch | null;
  /** Folders or files that could not be read, in words. */
  readonly problems: readonly { readonly path: string; readonly message: string }[];
}

/** One file. Tells of itself by `change` events (not more than some 10 a second) and by `finished`. */
export interface UploadFile extends EventTarget {
  /** Unique in this uploader; not the server's. */
  readonly id: string;
  readonly name: string;
  readonly relative_path: string | null;
  readonly size: number;
  readonly state: FileState;
  readonly progress: Progress;
  readonly error: UploadProblem | null;
  /** Something to tell the person while the state says nothing of it: "another tab sends this file", ... */
  readonly notice: string | null;
  readonly batch: UploadBatch | null;
  /** Number in the batch. */
  readonly n: number | null;
  /** The server's ids, once it has given them. */
  readonly upload_id: string | null;
  readonly file_id: string | null;
  /** Bytes that an earlier try had brought, proven the same. */
  readonly bytes_resumed: number;
  /** `GET /v1/files/{id}` as it was last read (with `follow`), or a line of `GET /v1/batches/{id}/files`. */
  readonly record: Record<string, unknown> | null;
  /** Resolves with this file at its end, whatever that is; never rejects. After `retry()` a new promise is there. */
  readonly finished: Promise<UploadFile>;
  /** What is on the wire is cut; what is stored stays. */
  pause(): void;
  resume(): void;
  /** Ends the session; nothing stays in S3. */
  cancel(): Promise<void>;
  /** Once more after `failed`; goes on with what is stored. */
  retry(): void;
}

/** A folder, or many files at once. */
export interface UploadBatch extends EventTarget {
  readonly id: string;
  readonly name: string;
  readonly batch_id: string | null;
  readonly state: BatchState;
  readonly files: readonly UploadFile[];
  readonly progress: TotalProgress;
  readonly error: UploadProblem | null;
  readonly notice: string | null;
  /** `GET /v1/batches/{id}` as it was last read: exact counts of what the server has done. */
  readonly record: Record<string, unknown> | null;
  readonly finished: Promise<UploadBatch>;
  pause(): void;
  resume(): void;
  cancel(): Promise<void>;
  /** All files that failed, once more. */
  retry(): void;
}

/** An upload that an earlier page began and that has not ended. */
export interface Resumable {
  readonly kind: "file" | "batch";
  /** `upload_id` or `batch_id`. */
  readonly id: string;
  readonly name: string;
  readonly size: number;
  readonly files: number;
  /** As far as this browser knows. */
  readonly bytes: number;
  readonly began_at: string;
  /** Whether the browser kept a handle, so that `resume()` needs no file (it may ask the person for permission). */
  readonly has_handle: boolean;
  /**
   * Goes on. Call it from a click where `has_handle`. Otherwise give the file, or the folder's files, chosen again.
   * Rejects with an UploadError `wrong_file` if it is another one, `permission_denied`, `no_session`.
   */
  resume(again?: Addable): Promise<Added>;
  /** Cancels it at the server and forgets it here. */
  discard(): Promise<void>;
}

export interface UploaderEventMap {
  /** New files or a batch: `detail: Added`. */
  added: CustomEvent<Added>;
  /** `detail: {files, batches}` that changed since the last one; not more than some 10 a second. */
  change: CustomEvent<{ files: readonly UploadFile[]; batches: readonly UploadBatch[] }>;
  /** A file has come to an end: `detail: UploadFile`. */
  end: CustomEvent<UploadFile>;
  /** Nothing is left to do. */
  idle: CustomEvent<null>;
  /** The network or the API went away or came back: `detail: {online: boolean}`. */
  connection: CustomEvent<{ online: boolean }>;
}

export interface Uploader extends EventTarget {
  readonly files: readonly UploadFile[];
  readonly batches: readonly UploadBatch[];
  readonly progress: TotalProgress;
  /** False while the browser is offline, or nothing has got through for a while. */
  readonly online: boolean;
  /** Whether all is paused. */
  readonly paused: boolean;
  /** Returns at once for the page: thousands of files are taken in without blocking it. Rejects with UploadError. */
  add(what: Addable, options?: AddOptions): Promise<Added>;
  pause(): void;
  resume(): void;
  /** Cancels all that has not ended. */
  cancel(): Promise<void>;
  /** All that failed and may succeed, once more. */
  retry(): void;
  /** Drops what has ended from `files` and `batches`. */
  clear(): void;
  /** What earlier pages of this browser left unfinished, for this API and account. */
  resumable(): Promise<Resumable[]>;
  /** Cuts everything and frees workers; what is stored stays and is resumable. */
  close(): void;
  addEventListener<K extends keyof UploaderEventMap>(
    type: K,
    listener: (event: UploaderEventMap[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject, options?: boolean | AddEventListenerOptions): void;
}

export interface UploaderOptions {
  /** `https://api.example`, or "" for the page's own origin. */
  api: string;
  /** A bearer token, or a function that returns one; it is called before each call of the API and again after a 401. */
  token: string | ((again: boolean) => string | Promise<string>);
  /** Whose unfinished uploads are kept apart in this browser; by default issuer, tenant and subject of the token. */
  account?: string;
  /** Wait for the server's verdict on each file (default true); else a file is `done` when its bytes are. */
  follow?: boolean;
  /** Requests to S3 at once, at most; 6 by default, which is what browsers allow a host over HTTP/1.1. */
  max_concurrency?: number;
  /** Largest part in bytes; 32 MiB by default in Safari and on phones, else the server's choice. */
  max_part_size?: number;
  /** For how many seconds what the world gets wrong is tried again while the browser is online; 900 by default. */
  patience_s?: number;
  /** Where the engine's own files are, with a slash at the end; by default where the module was loaded from. */
  base?: string | URL;
  /** Replaceable for tests and other hosts. */
  transport?: Transport;
  storage?: RecordStore | null;
  locks?: Pick<LockManager, "request"> | null;
  hasher?: Hasher;
  clock?: Clock;
  network?: Network;
}

export interface Reply {
  readonly status: number;
  readonly headers: { get(name: string): string | null };
  readonly text: string;
}

/** All that goes over the network. Rejects with a NetworkError when no answer came, an AbortError when cut. */
export interface Transport {
  /** A call of the API. */
  request(method: string, url: string, headers: Record<string, string>, body: string | null, signal: AbortSignal): Promise<Reply>;
  /** Bytes to S3 by PUT. `onProgress(bytes)` counts from 0 for each call. */
  put(url: string, headers: Record<string, string>, body: Blob, signal: AbortSignal, onProgress: (bytes: number) => void): Promise<Reply>;
  /** Bytes to S3 by a form. */
  post(url: string, fields: Record<string, string>, body: Blob, signal: AbortSignal, onProgress: (bytes: number) => void): Promise<Reply>;
}

/** Base64 SHA-256 digests and fingerprints, off the main thread. */
export interface Hasher {
  sha256(body: Blob, signal?: AbortSignal): Promise<string>;
  fingerprint(body: Blob, signal?: AbortSignal): Promise<string>;
  /** How many may work at once. */
  readonly width: number;
  close(): void;
}

/** Where unfinished uploads are remembered: IndexedDB in browsers. */
export interface RecordStore {
  put(record: StoredRecord): Promise<void>;
  get(id: string): Promise<StoredRecord | undefined>;
  list(account: string): Promise<StoredRecord[]>;
  delete(id: string): Promise<void>;
}

export interface StoredRecord {
  readonly id: string;
  readonly account: string;
  readonly kind: "file" | "batch";
  readonly [more: string]: unknown;
}

export interface Clock {
  /** Seconds that only grow. */
  now(): number;
  random(): number;
  /** Resolves after so many seconds; rejects with the signal's reason when it is aborted. */
  sleep(seconds: number, signal?: AbortSignal): Promise<void>;
}

/** Whether the browser believes to be online, and `online`/`offline` events. */
export interface Network extends EventTarget {
  readonly onLine: boolean;
}

/** A refusal that the caller should hear of by itself. */
export class UploadError extends Error implements UploadProblem {
  constructor(code: string, message: string, retryable?: boolean);
  readonly code: string;
  readonly retryable: boolean;
}

export function createUploader(options: UploaderOptions): Uploader;

/** The fingerprint of a file (`v1:…`), as the API and the Python client compute it. */
export function fingerprintOf(body: Blob): Promise<string>;

/** How the server will cut a file of `size` bytes: mode, part size, part count. Throws UploadError `size_not_allowed`. */
export function planOf(size: number, max_part_size?: number): { mode: "single" | "multipart"; part_size: number; part_count: number };
