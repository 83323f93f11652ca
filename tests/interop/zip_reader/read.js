// Reads a ZIP archive by its directory with yauzl: each member's bytes against the directory's size and CRC-32.
// Prints "<members> <bytes> <CRC-32 over the CRC-32s, big-endian, in order>".
import { crc32 } from "node:zlib";
import yauzl from "yauzl";

const options = { lazyEntries: true, strictFileNames: true, validateEntrySizes: true };
yauzl.open(process.argv[2], options, (error, archive) => {
  if (error) throw error;
  let members = 0;
  let bytes = 0;
  let crcs = 0;
  archive.on("error", (trouble) => {
    throw trouble;
  });
  archive.on("end", () => console.log(members, bytes, crcs));
  archive.on("entry", (entry) => {
    archive.openReadStream(entry, (refusal, stream) => {
      if (refusal) throw refusal;
      let found = 0;
      stream.on("data", (piece) => {
        found = crc32(piece, found);
        bytes += piece.length;
      });
      stream.on("error", (trouble) => {
        throw trouble;
      });
      stream.on("end", () => {
        if (found !== entry.crc32) throw new Error(`${entry.fileName}: CRC-32 ${found}, not ${entry.crc32}`);
        const written = Buffer.alloc(4);
        written.writeUInt32BE(found);
        crcs = crc32(written, crcs);
        members += 1;
        archive.readEntry();
      });
    });
  });
  archive.readEntry();
});
