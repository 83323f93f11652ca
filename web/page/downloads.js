// Bringing bytes to the person's disk: a signed address of S3, which answers with an attachment. The page stays.

/** Asks the API for the address and lets the browser take it. Errors go to `announcer`. */
export async function download(app, path, query) {
  try {
    const anchor = document.createElement("a");
    anchor.href = await app.api.link(path, query);
    anchor.rel = "noreferrer";
    anchor.download = ""; // S3's own Content-Disposition names the file
    anchor.click();
  } catch (error) {
    app.announcer.show(error.message, { tone: "bad" });
  }
}
