// What can go wrong, each with a stable code and a sentence. No message holds a signed URL or a token.

/** A failure that the person hears of; `retryable`: whether the same may succeed later. */
export class UploadError extends Error {
  constructor(code, message, retryable = false) {
    super(message);
    this.name = "UploadError";
    this.code = code;
    this.retryable = retryable;
  }
}

/** Nothing usable came back: refused, cut, timed out, no such host, or an answer that CORS hides. */
export class NetworkError extends UploadError {
  constructor(message = "The network did not answer.") {
    super("network", message, true);
    this.name = "NetworkError";
  }
}

/** The API refused: its status, the problem's code, the whole body. */
export class ApiError extends UploadError {
  constructor(status, code, message, body, retryable) {
    super(code, message, retryable ?? status >= 500);
    this.name = "ApiError";
    this.status = status;
    this.body = body;
  }
}

/** S3 refused a request for good; `code` is S3's own. */
export class StoreError extends UploadError {
  constructor(status, code, message) {
    super(code, message, true);
    this.name = "StoreError";
    this.status = status;
  }
}

/** An answer does not say what the contract promises. */
export class AnswerError extends UploadError {
  constructor(message) {
    super("bad_answer", message, true);
    this.name = "AnswerError";
  }
}

/** What a run is cut with by `pause`, `cancel` and `close`; never shown. */
export class Cut extends Error {
  constructor(why) {
    super(why);
    this.name = "AbortError";
    this.why = why;
  }
}

/** What reading a file failed with, as our error. */
export function unreadable(error) {
  if (error?.name === "NotFoundError") {
    return new UploadError("source_changed", "The file was moved, replaced or deleted while it was being uploaded. Choose it again.");
  }
  if (error?.name === "NotReadableError") {
    // Chromium and Firefox say this of a file that was written to after it had been chosen.
    return new UploadError("source_changed", "The file changed after it was chosen, or it cannot be read any more. Choose it again.");
  }
  return new UploadError("source_unreadable", `The file cannot be read: ${error?.message ?? error}`);
}
