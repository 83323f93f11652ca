// Digests as the API and S3 spell them. No I/O here.

import { Sha256 } from "./sha256.js";

/** @param {Uint8Array} bytes */
export function base64(bytes) {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

/** @param {string} text @returns {Uint8Array} */
export function fromBase64(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

/** @param {Uint8Array} bytes */
export function hex(bytes) {
  let text = "";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}

/** Hex of a base64 digest. */
export const hexOf = (digest) => hex(fromBase64(digest));

/**
 * S3's composite of a multipart upload: SHA-256 over the parts' digests, and their number.
 * @param {readonly string[]} digests base64, in the order of the parts
 */
export function composite(digests) {
  const whole = new Sha256();
  for (const digest of digests) whole.update(fromBase64(digest));
  return `${base64(whole.digest())}-${digests.length}`;
}
