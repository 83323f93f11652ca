// What a page would say to Uppy, and what a test wants to know afterwards. Both majors run this file.
import Uppy from "@uppy/core";
import AwsS3 from "@uppy/aws-s3";

const MIB = 1024 * 1024;

// One MiB that looks like chance, twice; the test makes the same.
const twice = (() => {
  const words = new Uint32Array(MIB / 4);
  for (let i = 0, x = 1; i < words.length; i += 1) words[i] = x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
  const bytes = new Uint8Array(2 * MIB);
  bytes.set(new Uint8Array(words.buffer));
  bytes.set(new Uint8Array(words.buffer), MIB);
  return bytes;
})();

// Each MiB begins elsewhere in it, so that no two places of a file are alike.
const blobOf = (size, seed) => {
  const pieces = [];
  for (let at = 0; at < size; at += MIB) {
    const from = ((at / MIB) * 4099 + seed * 257) % MIB;
    pieces.push(new Blob([twice.slice(from, from + Math.min(MIB, size - at))]));
  }
  return new Blob(pieces);
};

window.upload = async (endpoint, files, { multipartAbove, cancelAt } = {}) => {
  const uppy = new Uppy();
  uppy.use(AwsS3, {
    ...(AwsS3.VERSION.startsWith("5.") ? { endpoint } : { companionEndpoint: endpoint }),
    ...(multipartAbove === undefined ? {} : { shouldUseMultipart: (file) => file.size > multipartAbove }),
  });
  const errors = [];
  uppy.on("upload-error", (file, error) => errors.push(`${file?.name}: ${error} ${error?.source?.status ?? ""}`));
  const cancelled = new Promise((resolve) => {
    uppy.on("upload-progress", (file, { bytesUploaded }) => {
      if (cancelAt !== undefined && bytesUploaded >= cancelAt) { uppy.cancelAll(); resolve(); }
    });
  });
  // What was picked lies on the disk, as a person's files do; what is made here has to fit the browser.
  const picked = [...(document.querySelector("input")?.files ?? [])];
  for (const { name, size, seed } of files) {
    const data = picked.find((file) => file.name === name) ?? blobOf(size, seed);
    uppy.addFile({ name, type: "application/octet-stream", data, meta: { seed: String(seed) } });
  }
  const result = await (cancelAt === undefined ? uppy.upload() : Promise.race([uppy.upload(), cancelled]));
  return { version: AwsS3.VERSION, errors, done: (result?.successful ?? []).map((file) => [file.name, file.response.body.key, file.uploadURL]) };
};
