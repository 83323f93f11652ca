// Where unfinished uploads are remembered. Records hold ids, names, sizes and handles: no token, no URL, no bytes.

const DATABASE = "heavylift-uploads";
const VERSION = 1;

/** IndexedDB; null where the browser has none or forbids it. @returns {import("./index.d.ts").RecordStore | null} */
export function browserStorage() {
  if (!globalThis.indexedDB) return null;
  let opening = null;

  function open() {
    opening ??= new Promise((resolve, reject) => {
      const request = indexedDB.open(DATABASE, VERSION);
      request.onupgradeneeded = () => {
        request.result.createObjectStore("records", { keyPath: "id" }).createIndex("account", "account");
      };
      request.onsuccess = () => {
        request.result.onversionchange = () => request.result.close();
        resolve(request.result);
      };
      request.onerror = () => reject(request.error);
    });
    return opening;
  }

  async function within(mode, work) {
    const transaction = (await open()).transaction("records", mode, { durability: "relaxed" });
    const request = work(transaction.objectStore("records"));
    return new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve(request.result);
      transaction.onerror = transaction.onabort = () => reject(transaction.error ?? request.error);
    });
  }

  return {
    put: (record) => within("readwrite", (store) => store.put(record)).then(() => {}),
    get: (id) => within("readonly", (store) => store.get(id)),
    list: (account) => within("readonly", (store) => store.index("account").getAll(account)),
    delete: (id) => within("readwrite", (store) => store.delete(id)).then(() => {}),
  };
}

/** A storage that may fail without harm: an upload must not end because a note of it could not be kept. */
export function forgiving(storage) {
  const quietly = (call, otherwise) => async (...given) => {
    try {
      return storage ? await storage[call](...given) : otherwise;
    } catch {
      return otherwise; // private windows, full disks, handles that cannot be cloned
    }
  };
  return { put: quietly("put"), get: quietly("get"), list: quietly("list", []), delete: quietly("delete") };
}
