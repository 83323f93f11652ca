"""What clients may send as a file's entry, as a hypothesis strategy."""

from __future__ import annotations

from hypothesis import strategies as st

from heavylift.api.bodies import FileEntry

NASTY_NAMES = (
    "x" * 5_000,
    "../../etc/passwd",
    "..\\..\\windows\\system32",
    "/absolute/path.tif",
    "a\x00b\x1fc\x7f.tif",
    "line\nbreak\r\n.tif",
    "\U0001f4f7 photo \U0001f9ea.tif",
    "re\u202egnp.exe",
    "\ufffd",
    " ",
    ".",
    "..",
    "a#b/T#other#F#x",
    "{file_id}?x=1&y=%2F",
    '"quoted"; filename="evil.exe"',
    "\U0001f4a9" * 5_000,
)
names = st.one_of(
    st.sampled_from(NASTY_NAMES),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50),
)


def entries() -> st.SearchStrategy[FileEntry]:
    return st.builds(
        lambda name, size, path, metadata: FileEntry(name=name, size=size, relative_path=path, metadata=metadata),
        names,
        st.integers(0, 1 << 40),
        st.one_of(st.none(), names),
        st.dictionaries(names, names, max_size=2).filter(lambda value: len(repr(value)) < 4_000),
    )
