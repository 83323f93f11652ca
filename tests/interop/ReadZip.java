import java.io.BufferedInputStream;
import java.io.FileInputStream;
import java.util.zip.CRC32;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;
import java.util.zip.ZipInputStream;

/** Reads an archive from front to back and by its directory; prints members, bytes and a CRC-32 over all CRC-32s. */
public class ReadZip {
    public static void main(String[] arguments) throws Exception {
        byte[] buffer = new byte[1 << 16];
        long members = 0, bytes = 0;
        CRC32 all = new CRC32();
        try (ZipInputStream in = new ZipInputStream(new BufferedInputStream(new FileInputStream(arguments[0])))) {
            for (ZipEntry entry = in.getNextEntry(); entry != null; entry = in.getNextEntry()) {
                CRC32 crc = new CRC32();
                for (int got = in.read(buffer); got > 0; got = in.read(buffer)) {
                    crc.update(buffer, 0, got);
                    bytes += got;
                }
                members++;
                add(all, crc.getValue());
            }
        }
        System.out.println(members + " " + bytes + " " + all.getValue());
        try (ZipFile file = new ZipFile(arguments[0])) {
            CRC32 listed = new CRC32();
            file.stream().forEach(entry -> add(listed, entry.getCrc()));
            System.out.println(file.size() + " " + listed.getValue());
        }
    }

    static void add(CRC32 all, long crc) {
        for (int shift = 24; shift >= 0; shift -= 8) {
            all.update((int) (crc >> shift) & 0xFF);
        }
    }
}
