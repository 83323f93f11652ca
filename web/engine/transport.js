// All that goes over the network: fetch for the API, XMLHttpRequest for bytes (fetch tells nothing of their progress).

import { NetworkError } from "./errors.js";

const API_SECONDS_MAX = 60; // the gateway gives up after 30
const STALLED_SECONDS = 90; // without a byte or an answer: S3 itself drops such connections sooner
const WATCH_MS = 5_000;
const EVENTS_FROM_BYTES = 256 * 1024; // below this the end of the request says enough

/** @returns {import("./index.d.ts").Transport} */
export function browserTransport() {
  return { request, put: (url, headers, body, signal, onProgress) => send("PUT", url, headers, body, body.size, signal, onProgress), post };
}

async function request(method, url, headers, body, signal) {
  const limit = AbortSignal.timeout(API_SECONDS_MAX * 1000);
  try {
    const answer = await fetch(url, {
      method,
      headers,
      body,
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
      credentials: "omit", // the token is all that we are; a cookie of the API's host is none of ours
      cache: "no-store",
      referrerPolicy: "no-referrer",
    });
    return { status: answer.status, headers: answer.headers, text: await answer.text() };
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    throw new NetworkError(limit.aborted ? `The API did not answer within ${API_SECONDS_MAX} s.` : "The API cannot be reached.");
  }
}

function post(url, fields, body, signal, onProgress) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  form.append("file", body, "file"); // the last field: S3 reads no further
  return send("POST", url, {}, form, body.size, signal, onProgress);
}

function send(method, url, headers, body, size, signal, onProgress) {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const call = new XMLHttpRequest();
    call.open(method, url);
    for (const [name, value] of Object.entries(headers)) call.setRequestHeader(name, value);
    const flight = { call, moved: performance.now() };
    const cut = () => call.abort();
    const end = (settle, value) => {
      flights.delete(flight);
      signal.removeEventListener("abort", cut);
      settle(value);
    };
    if (size >= EVENTS_FROM_BYTES) {
      call.upload.onprogress = ({ loaded }) => {
        flight.moved = performance.now();
        onProgress(Math.min(size, loaded)); // a form is longer than its file
      };
    }
    call.onload = () => {
      // Asking for a header that the store does not expose would be an error in the console.
      const told = call.getAllResponseHeaders().toLowerCase().split("\r\n");
      const get = (name) => (told.some((line) => line.startsWith(`${name.toLowerCase()}:`)) ? call.getResponseHeader(name) : null);
      end(resolve, { status: call.status, headers: { get }, text: call.responseText });
    };
    call.onerror = () => end(reject, new NetworkError("The store cannot be reached."));
    call.onabort = () => end(reject, signal.aborted ? signal.reason : new NetworkError("The store did not answer."));
    signal.addEventListener("abort", cut, { once: true });
    watch(flight);
    call.send(body);
  });
}

// One timer for all: a connection that hangs without an error would hold its place for ever.
const flights = new Set();
let watching = null;

function watch(flight) {
  flights.add(flight);
  watching ??= setInterval(() => {
    const now = performance.now();
    for (const { call, moved } of flights) {
      if (now - moved > STALLED_SECONDS * 1000) call.abort();
    }
    if (!flights.size) {
      clearInterval(watching);
      watching = null;
    }
  }, WATCH_MS);
}
