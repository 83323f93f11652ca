// The authorization code flow with PKCE, as far as it is arithmetic: RFC 7636, RFC 6749 4.1, RFC 9207. No document here.

/** Base64 of bytes, in the alphabet of URLs, without padding. */
export function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** 32 random bytes: a verifier of 43 characters, or a state. */
export function random(crypto = globalThis.crypto) {
  return base64url(crypto.getRandomValues(new Uint8Array(32)));
}

/** S256 of a verifier. */
export async function challenge(verifier, crypto = globalThis.crypto) {
  return base64url(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier))));
}

/** Where the browser goes to sign in. Holds no secret: the verifier stays here. */
export function authorizeUrl(endpoint, { client_id, redirect_uri, scope, state, code_challenge, parameters = {} }) {
  const url = new URL(endpoint);
  const fields = {
    ...parameters,
    response_type: "code", client_id, redirect_uri, scope, state, code_challenge, code_challenge_method: "S256",
  };
  for (const [name, value] of Object.entries(fields)) url.searchParams.set(name, value);
  return url.href;
}

/** What the issuer's answer in the address says: {"code","state"}, {"error","description","state"}, or null: no answer. */
export function answerIn(address) {
  const query = new URL(address).searchParams;
  const state = query.get("state");
  if (!state || (!query.has("code") && !query.has("error"))) return null;
  if (query.has("error")) return { state, error: query.get("error"), description: query.get("error_description") ?? "" };
  return { state, code: query.get("code"), iss: query.get("iss") };
}

/** The address without the answer, so that neither history nor a bookmark keeps it. */
export function withoutAnswer(address) {
  const url = new URL(address);
  for (const name of ["code", "state", "error", "error_description", "error_uri", "iss", "session_state"]) url.searchParams.delete(name);
  return url.pathname + url.search + url.hash;
}

/** What a token says of its holder; {} of an opaque one. Not verified: it decides nothing, the API does. */
export function claims(token) {
  const [, payload] = String(token ?? "").split(".");
  if (!payload) return {};
  try {
    const binary = atob(payload.replaceAll("-", "+").replaceAll("_", "/"));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(binary, (one) => one.charCodeAt(0))));
  } catch {
    return {};
  }
}
