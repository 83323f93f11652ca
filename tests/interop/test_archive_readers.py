"""Archives opened by other people's programs: front to back, by their directory, and from a pipe.

The bytes are those of the layout, which the archives in S3 have, too (tests/heavylift/archives). Members are zeros, so
that gigabytes of them are holes in a file.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from heavylift.archives import crc
from heavylift.archives.layout import plan
from heavylift.archives.members import Member, Members, Source
from tests import npm

GIB = 1 << 30
HERE = Path(__file__).parent
JAVA_SOURCE = HERE / "ReadZip.java"
NODE_SOURCES = [HERE / "zip_reader" / name for name in ("package.json", "package-lock.json", "read.js")]
ENGLISH = {"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin:/usr/local/bin"}


@cache
def crc_of_zeros(length: int) -> int:
    if length <= 1 << 20:
        return zlib.crc32(bytes(length))
    half = length // 2
    return crc.combine(crc_of_zeros(half), crc_of_zeros(length - half), length - half)


@dataclass(frozen=True)
class Made:
    file: Path
    sizes: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        return sum(self.sizes)

    @property
    def crcs(self) -> int:
        """The CRC-32 over the CRC-32s of all members, in order."""
        return zlib.crc32(b"".join(crc_of_zeros(size).to_bytes(4) for size in self.sizes))


def made(folder: Path, sizes: Iterator[int] | list[int], names: Callable[[int], str] = "f{:06d}.bin".format) -> Made:
    """An archive of zeros in a file that has holes."""
    members, known = Members(), tuple(sizes)
    for n, size in enumerate(known):
        source = Source("b", f"{n}", None, "e") if size else None
        members.append(Member(names(n), size, 1_763_596_800 + 2 * n, crc_of_zeros(size), source))
    layout = plan(members)
    with (folder / "a.zip").open("wb") as out:
        for span in layout.spans(0, layout.size_bytes):
            if span.record:
                out.write(span.record)
            else:
                out.seek(span.length, 1)
    assert (folder / "a.zip").stat().st_size == layout.size_bytes
    return Made(folder / "a.zip", known)


def run(*command: str, stdin: Path | None = None, timeout_s: float = 3_000) -> str:
    program = shutil.which(command[0])
    assert program, f"{command[0]} is installed by tests/system_packages.sh"
    with stdin.open("rb") if stdin else open("/dev/null", "rb") as given:
        ended = subprocess.run(
            [program, *command[1:]], stdin=given, capture_output=True, timeout=timeout_s, env=ENGLISH, check=False
        )
    said = (ended.stdout[-500:] + ended.stderr[-500:]).decode("utf-8", "replace")
    assert ended.returncode == 0, said
    return ended.stdout.decode("utf-8", "replace") + ended.stderr.decode("utf-8", "replace")


def by_unzip(archive: Made) -> None:
    assert "No errors detected" in run("unzip", "-tq", str(archive.file))


def by_7z(archive: Made) -> None:
    said = run("7z", "t", str(archive.file))
    assert "Everything is Ok" in said
    assert "Warnings" not in said
    assert f"Size:       {archive.size_bytes}\n" in said


def by_bsdtar(archive: Made) -> None:
    assert len(run("bsdtar", "-tf", str(archive.file)).splitlines()) == len(archive.sizes)
    assert len(_extracted("bsdtar", "-xOf", str(archive.file))) == min(archive.size_bytes, 1)


def by_bsdtar_from_a_pipe(archive: Made) -> None:
    """A pipe cannot seek: the local headers alone say where members begin and end."""
    command = f'cat "{archive.file}" | bsdtar -tf - | wc -l && cat "{archive.file}" | bsdtar -xOf - | wc -c'
    lines, count = run("sh", "-c", command).split()
    assert (int(lines), int(count)) == (len(archive.sizes), archive.size_bytes)


def _extracted(*command: str) -> bytes:
    """The first byte of what a program extracts; it must end well."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENGLISH) as process:
        assert process.stdout
        assert process.stderr
        first = process.stdout.read(1)
        while process.stdout.read(1 << 20):
            pass
        said = process.stderr.read()
    assert (process.returncode, said) == (0, b"")
    return first


def by_zipfile(archive: Made) -> None:
    with zipfile.ZipFile(archive.file) as opened:
        assert [one.file_size for one in opened.infolist()] == list(archive.sizes)
        assert opened.testzip() is None


def by_java(archive: Made) -> None:
    """ZipInputStream reads from front to back and checks each CRC-32; ZipFile goes by the directory."""
    streamed, listed = run("java", "-Xshare:auto", str(JAVA_SOURCE), str(archive.file)).splitlines()
    assert streamed == f"{len(archive.sizes)} {archive.size_bytes} {archive.crcs}"
    assert listed == f"{len(archive.sizes)} {archive.crcs}"


def by_jar(archive: Made) -> None:
    """The tool itself is part of every Java, its start script is not."""
    listed = run("java", "-m", "jdk.jartool/sun.tools.jar.Main", "tf", str(archive.file))
    assert len(listed.splitlines()) == len(archive.sizes)


@cache
def node_reader() -> Path:
    """yauzl, as npm brings it; without npm's registry the tests that want it fail and say so."""
    try:
        return npm.install(NODE_SOURCES, HERE.parents[1] / "build" / "zip_reader") / "read.js"
    except SystemExit as missing:
        pytest.fail(str(missing), pytrace=False)


def by_node(archive: Made) -> None:
    """yauzl goes by the directory; each member's CRC-32 is compared with what stands there."""
    said = run(npm.node(), str(node_reader()), str(archive.file))
    assert said == f"{len(archive.sizes)} {archive.size_bytes} {archive.crcs}\n"


READERS = (by_unzip, by_7z, by_bsdtar, by_bsdtar_from_a_pipe, by_zipfile, by_java, by_jar, by_node)
readers = pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Made:
    chance = random.Random(7)
    sizes = [0, 1, 700, 5 << 20, 0, *(chance.randrange(9_000) for _ in range(200)), 0]
    names = ("plain {}.bin", "ordner/größe {}.tif", "資料/{}.dcm", "a/b/c/ü {}", "emoji \N{MOUNTAIN} {}")
    return made(tmp_path_factory.mktemp("mixed"), sizes, lambda n: names[n % len(names)].format(n))


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """As many members as the plain end record counts, where the count itself means "look into ZIP64"."""
    return made(tmp_path_factory.mktemp("marked"), [n % 3 for n in range(65_535)])


@readers
def test_mixed(mixed: Made, reader: Callable[[Made], None]) -> None:
    """Names in UTF-8, empty members at both ends, members across parts."""
    reader(mixed)


@pytest.mark.parametrize("reader", [by_unzip, by_7z, by_bsdtar_from_a_pipe], ids=lambda reader: reader.__name__)
def test_65535_members(marked: Made, reader: Callable[[Made], None]) -> None:
    """The number that is the mark of ZIP64."""
    reader(marked)


BIG = {
    "65,535 members": [n % 3 for n in range(65_535)],
    "100,000 members": [n % 500 for n in range(100_000)],
    "a member above 4 GiB, and offsets": [10, 4 * GIB + 5, 20, 0, 30],
    "4 GiB - 1": [7, 4 * GIB - 1, 7],
    "4 GiB - 2": [7, 4 * GIB - 2, 7],
    "offsets at the mark": [4 * GIB - 1 - 50 - 2 * 59, 9, 9, 9],
    "65,534 and 65,536": [1] * 65_536,
}


@pytest.fixture(scope="module")
def big(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """One of BIG, made once for all its readers."""
    folder = tmp_path_factory.mktemp("big")
    yield made(folder, BIG[request.param])
    shutil.rmtree(folder)


@pytest.mark.full
@pytest.mark.timeout(7_200)
@readers
@pytest.mark.parametrize("big", BIG, indirect=True)
def test_full_size(big: Made, reader: Callable[[Made], None]) -> None:
    """Members and offsets above 4 GiB, exactly at the limits, and a hundred thousand members."""
    reader(big)


def test_the_offsets_case_is_at_the_mark() -> None:
    """One of its local headers begins at 0xFFFFFFFF exactly, and one right before."""
    members = Members()
    for n, size in enumerate(BIG["offsets at the mark"]):
        members.append(Member(f"f{n:06d}.bin", size, 1_763_596_800, 0, Source("b", "k", None, "e")))
    layout = plan(members)

    assert 0xFFFF_FFFF in set(layout.offsets), [hex(one) for one in layout.offsets]
    assert sys.maxsize > 1 << 32
