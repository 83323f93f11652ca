// What an answer of S3 means, and what to do next. Decided by S3's <Code>, not by the status alone: an expired token is a
// 400, and so is a slow client. The Python client's verdict.py decides the same (tests/vectors/s3_verdicts.json). No I/O.

// A signature that was right a moment ago: the URL or the signer's own token ran out, or clocks moved.
const SIGN_AGAIN_CODES = new Set(["ExpiredToken", "AccessDenied", "RequestTimeTooSkewed"]);
// The world's fault; the same bytes may be sent again.
const BACK_OFF_CODES = new Set([
  "RequestTimeout", // a 400: S3 waited too long for the body
  "IncompleteBody",
  "SlowDown",
  "InternalError",
  "ServiceUnavailable",
  "ConditionalRequestConflict", // 409: somebody else was writing the same key
  "OperationAborted",
]);
// Only the API knows what became of the session: an earlier try may have arrived, or somebody cancelled.
const ASK_CODES = new Set(["NoSuchUpload", "PreconditionFailed"]);
const SLOW_DOWN_CODES = new Set(["SlowDown", "ServiceUnavailable"]);
const SIGN_AGAIN_MAX = 8; // in a row; a real refusal also says AccessDenied
const SIGNATURE_MISMATCH_MAX = 1; // once can be a key that rotated; twice is a wrong request
const BAD_DIGEST_MAX = 3;
const NOT_WORTH_RETRYING = new Set([501, 505]);

export const Act = Object.freeze({
  STORED: "stored",
  SIGN_AGAIN: "sign again",
  BACK_OFF: "back off",
  HASH_AGAIN: "hash again",
  ASK: "ask",
  FAIL: "fail",
});

/** What was already tried for one part. */
export const NO_TRIES = Object.freeze({ sign_again: 0, signature_mismatch: 0, bad_digest: 0, back_off: 0 });

/** All tries that failed, the exponent of the back-off. */
export const totalOf = (tries) => tries.sign_again + tries.signature_mismatch + tries.bad_digest + tries.back_off;

/** The count once `act` has been decided for `answer`. */
export function triesAfter(tries, act, answer) {
  if (act === Act.SIGN_AGAIN && answer.code === "SignatureDoesNotMatch") {
    return { ...tries, signature_mismatch: tries.signature_mismatch + 1 };
  }
  if (act === Act.SIGN_AGAIN) return { ...tries, sign_again: tries.sign_again + 1 };
  if (act === Act.HASH_AGAIN) return { ...tries, bad_digest: tries.bad_digest + 1 };
  if (act === Act.BACK_OFF) return { ...tries, back_off: tries.back_off + 1 };
  return tries;
}

/** Whether a status alone says that the same request may succeed later; null: no answer came. */
export function worldsFault(status) {
  return status == null || status === 408 || status === 429 || (status >= 500 && !NOT_WORTH_RETRYING.has(status));
}

/**
 * What to do after `answer` ({status, code}; a status of null: none came). `failing_s` is how long this part has been
 * failing, `patience_s` how long that may go on: what the world gets wrong is bounded by time, what looks like our own
 * mistake by count.
 */
export function judge(answer, tries, failing_s, patience_s) {
  const { status, code } = answer;
  if (status !== null && status >= 200 && status < 300) return Act.STORED;
  if (ASK_CODES.has(code) || (status === 412 && !code)) return Act.ASK;
  if (code === "SignatureDoesNotMatch") return tries.signature_mismatch < SIGNATURE_MISMATCH_MAX ? Act.SIGN_AGAIN : Act.FAIL;
  if (SIGN_AGAIN_CODES.has(code) || (status === 403 && !code)) return tries.sign_again < SIGN_AGAIN_MAX ? Act.SIGN_AGAIN : Act.FAIL;
  if (code === "BadDigest") return tries.bad_digest < BAD_DIGEST_MAX ? Act.HASH_AGAIN : Act.FAIL;
  if (BACK_OFF_CODES.has(code) || worldsFault(status)) return failing_s < patience_s ? Act.BACK_OFF : Act.FAIL;
  return Act.FAIL;
}

/** Whether the store said that there are too many requests. */
export const asksForLess = (answer) => SLOW_DOWN_CODES.has(answer.code) || answer.status === 429 || answer.status === 503;

/** Code and message of an S3 answer; the body may be anything, only two short elements are looked at. */
export function readAnswer(status, text, retry_after = null) {
  if (status >= 200 && status < 300) return { status, code: "", message: "", retry_after: null };
  const head = (text ?? "").slice(0, 65_536);
  return { status, code: element(head, "Code"), message: element(head, "Message"), retry_after };
}

function element(text, name) {
  const found = new RegExp(`<${name}>([^<]{0,500})</${name}>`).exec(text);
  if (!found) return "";
  const plain = found[1].replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&quot;", '"').replaceAll("&amp;", "&");
  // Some stores echo the request's URL in a message: a signature must not reach a page.
  return plain.replace(/https?:\/\/\S+/g, "<url>").trim();
}

/** An answer as a sentence. */
export function inWords(answer) {
  if (answer.status === null) return answer.message || "The store did not answer.";
  const said = `The store answered ${answer.status} ${answer.code}`.trim();
  return answer.message ? `${said}: ${answer.message}` : `${said}.`;
}
