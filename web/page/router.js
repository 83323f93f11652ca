// Addresses of views: #/files/01J…?status=failed. Pure, but for `go`.

/** "#/files/01J?kind=raw" -> {"parts": ["files", "01J"], "query": {"kind": "raw"}}. */
export function parse(hash) {
  const [path, search = ""] = hash.replace(/^#\/?/, "").split("?");
  let parts;
  try {
    parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  } catch {
    parts = ["unknown"];
  }
  return { parts, query: Object.fromEntries(new URLSearchParams(search)) };
}

/** The address of a view; empty values are left out of the query. */
export function address(parts, query = {}) {
  const kept = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const search = new URLSearchParams(kept).toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${search ? `?${search}` : ""}`;
}

export function go(parts, query, { replace = false } = {}) {
  const wanted = address(parts, query);
  if (replace) {
    history.replaceState(null, "", wanted);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = wanted;
  }
}
