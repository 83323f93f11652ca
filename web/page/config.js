// Where the API is and how to sign in: /config.json, beside the page. docs/page.md describes it.

export class ConfigError extends Error {}

/** The configuration, checked. `base`: the page's own address. Throws ConfigError in words. */
export function checked(document, base) {
  const fail = (words) => {
    throw new ConfigError(`config.json: ${words}`);
  };
  if (document === null || typeof document !== "object") fail("is no object");
  if (document.version !== 1) fail("version must be 1");
  const address = (name, text) => {
    let url;
    try {
      url = new URL(text, base);
    } catch {
      fail(`${name} is no address`);
    }
    const loopback = ["localhost", "127.0.0.1", "[::1]"].includes(url.hostname);
    if (url.protocol !== "https:" && !(url.protocol === "http:" && loopback)) fail(`${name} must be https`);
    return url.href.replace(/\/$/, "");
  };
  const api = document.api ? address("api", document.api) : "";
  const wanted = document.sign_in ?? {};
  let signIn;
  if (wanted.kind === "development") {
    signIn = { kind: "development", token_url: address("sign_in.token_url", wanted.token_url ?? "/_local/token") };
  } else if (wanted.kind === "oidc") {
    if (!wanted.issuer || !wanted.client_id) fail("sign_in needs issuer and client_id");
    signIn = {
      kind: "oidc",
      // As it is written: the issuer is compared with what the discovery document says of itself.
      issuer: wanted.issuer,
      issuer_url: address("sign_in.issuer", wanted.issuer),
      client_id: String(wanted.client_id),
      scope: wanted.scope ?? "openid heavylift/read heavylift/write",
      redirect_uri: wanted.redirect_uri ? address("sign_in.redirect_uri", wanted.redirect_uri) : null,
      parameters: { ...wanted.parameters },
      sign_out_url: wanted.sign_out_url ? address("sign_in.sign_out_url", wanted.sign_out_url) : null,
    };
  } else {
    fail('sign_in.kind must be "oidc" or "development"');
  }
  return { api, sign_in: signIn, local_state_url: document.local_state_url ?? null, title: document.title ?? "heavylift" };
}

export async function load() {
  const answer = await fetch("config.json", { cache: "no-cache" });
  if (!answer.ok) throw new ConfigError(`config.json answered ${answer.status}`);
  return checked(await answer.json(), location.href);
}
