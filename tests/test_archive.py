"""The tar that tenants and backups travel in: what is read, and what is refused."""

import hashlib
import io
import random
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters_registry.archive import (
    Kind,
    OutgoingArchive,
    Part,
    ReadArchive,
    document,
)
from adapters_registry.errors import InvalidArchive, StorageError
from tests.archives_for_tests import (
    MANIFEST,
    pack,
    plain,
    plain_tar,
    sent_until_broken,
    tar_of,
    unpack,
)

MEMBERS = {"one.json": b'{"a": 1}', "two/two.bin": bytes(range(256)) * 8, "empty": b""}


def whole(members: dict[str, bytes] | None = None) -> bytes:
    parts = [document(name, content) for name, content in (members or MEMBERS).items()]
    return b"".join(OutgoingArchive(Kind.TENANT, parts, {"things": len(parts)}))


def read(content: bytes, most: int = 10_000) -> ReadArchive:
    sizes = dict.fromkeys([*MEMBERS, "a", "b"], most)
    return ReadArchive(io.BytesIO(content), Kind.TENANT, sizes.get)


def test_what_was_written_is_read() -> None:
    content = whole()
    archive = read(content)
    assert {name: archive.read(name) for name in archive.names} == MEMBERS
    assert archive.manifest.counts == {"things": 3}
    assert archive.manifest.format == 1


def test_any_tar_program_reads_it(tmp_path: Path) -> None:
    assert list(unpack(whole())) == [*MEMBERS, MANIFEST]
    with tarfile.open(fileobj=io.BytesIO(whole())) as tar:
        tar.extractall(tmp_path, filter="data")
    assert (tmp_path / "two/two.bin").read_bytes() == MEMBERS["two/two.bin"]
    assert {member.mode for member in tar} == {0o600}


def test_its_size_is_known_before_its_first_byte() -> None:
    archive = OutgoingArchive(Kind.BACKUP, [document("one.json", b"x" * 1000)], {})
    assert archive.size_bytes == len(b"".join(archive))


def test_one_that_another_program_packed_anew_is_read() -> None:
    assert read(pack(unpack(whole()))).read("one.json") == MEMBERS["one.json"]


def test_it_is_never_read_when_cut_off_anywhere() -> None:
    content = whole()
    assert read(content).names
    cuts = random.Random(7).sample(range(len(content)), 60)
    for length in [*range(0, len(content), 512), *cuts]:
        with pytest.raises(InvalidArchive):
            read(content[:length])


def test_a_flipped_bit_anywhere_is_found() -> None:
    content = bytearray(whole())
    random_numbers = random.Random(3)
    used = len(content) - 1024
    for _ in range(200):
        place = random_numbers.randrange(used)
        content[place] ^= 1
        try:
            archive = read(bytes(content))
        except InvalidArchive:
            pass
        else:  # a byte that means nothing: of padding, or of a header's owner or time
            assert {name: archive.read(name) for name in archive.names} == MEMBERS
        content[place] ^= 1


def special(kind: bytes, name: str = "a", link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return tar_of((info, b""))


def giant() -> bytes:
    return plain("a", 2**60).tobuf(tarfile.GNU_FORMAT) + bytes(4096)


def negative() -> bytes:
    header = bytearray(plain("a", 0).tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 12
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(1024)


def twice() -> bytes:
    return tar_of((plain("a", 1), b"1"), (plain("a", 1), b"1"))


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "cut off"),
    "no tar": (lambda: b"x" * 2000, "no tar"),
    "zeros": (lambda: bytes(10_240), "cut off"),
    "gzip": (lambda: b"\x1f\x8b" + bytes(2000), "no tar"),
    "a symbolic link": (lambda: special(tarfile.SYMTYPE, link="/etc/passwd"), "no plain file"),
    "a hard link": (lambda: special(tarfile.LNKTYPE, link="one.json"), "no plain file"),
    "a device": (lambda: special(tarfile.CHRTYPE), "no plain file"),
    "a block device": (lambda: special(tarfile.BLKTYPE), "no plain file"),
    "a pipe": (lambda: special(tarfile.FIFOTYPE), "no plain file"),
    "a folder": (lambda: special(tarfile.DIRTYPE), "no plain file"),
    "a sparse file": (lambda: special(tarfile.GNUTYPE_SPARSE), "no plain file"),
    "an old plain file": (lambda: special(tarfile.AREGTYPE), "no plain file"),
    "a long name": (lambda: special(tarfile.GNUTYPE_LONGNAME), "no plain file"),
    "a pax header": (lambda: special(tarfile.XHDTYPE), "no plain file"),
    "a way out": (lambda: plain_tar({"../a": b""}), "no member of such"),
    "an absolute path": (lambda: plain_tar({"/a": b""}), "no member of such"),
    "a dot before": (lambda: plain_tar({"./a": b""}), "no member of such"),
    "an unknown name": (lambda: plain_tar({"other": b""}), "no member of such"),
    "a name not in ASCII": (lambda: plain_tar({"é": b""}), "no member of such"),
    "a member twice": (twice, "there twice"),
    "too large a member": (lambda: plain_tar({"a": b"x" * 10_001}), "larger than 10000"),
    "a giant size": (giant, "larger than 10000"),
    "a negative size": (negative, "no plain file|no tar"),
    "no manifest": (lambda: plain_tar({"a": b"x"}), "cut off"),
    "a manifest that is not last": (
        lambda: plain_tar({MANIFEST: unpack(whole())[MANIFEST], **MEMBERS}),
        "comes after",
    ),
    "a manifest of nothing": (lambda: plain_tar({MANIFEST: b""}), MANIFEST),
    "a manifest of another form": (lambda: plain_tar({MANIFEST: b'{"format": "1"}'}), MANIFEST),
    "bytes after the end": (lambda: whole() + b"x", "after its end"),
    "two in a row": (lambda: whole() + whole(), "after its end"),
    "another format": (lambda: pack(unpack(whole()), format=2), "has format 2"),
    "another kind": (lambda: pack(unpack(whole()), kind="backup"), "archive of a backup"),
    "a member that is not there": (
        lambda: pack({MANIFEST: unpack(whole())[MANIFEST]}, members=_listed("a")),
        "is missing",
    ),
    "a member that is not listed": (
        lambda: pack({"a": b"1", MANIFEST: unpack(whole())[MANIFEST]}, members={}),
        "is not in manifest",
    ),
    "another content": (
        lambda: pack({"a": b"1", MANIFEST: unpack(whole())[MANIFEST]}, members=_listed("a")),
        "is damaged",
    ),
}


def _listed(name: str) -> dict[str, dict[str, object]]:
    return {name: {"size_bytes": 1, "sha256": "0" * 64}}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_archive_is_refused(name: str) -> None:
    make, said = HOSTILE[name]
    with pytest.raises(InvalidArchive, match=said) as refused:
        read(make())
    assert refused.value.field == "archive"
    assert refused.value.message.startswith("archive: ")


def test_a_copy_is_a_new_private_file(tmp_path: Path) -> None:
    archive = read(whole())
    archive.copy("one.json", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == MEMBERS["one.json"]
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600
    with pytest.raises(StorageError):
        archive.copy("one.json", tmp_path / "copy")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError):
        archive.copy("one.json", tmp_path / "link")
    assert not (tmp_path / "elsewhere").exists()


def test_lines_are_read_one_by_one() -> None:
    archive = read(whole({"a": b"one\ntwo\n", "b": b"one\ntwo"}))
    assert list(archive.lines("a")) == [b"one\n", b"two\n"]
    with pytest.raises(InvalidArchive, match="line without an end"):
        list(archive.lines("b"))


def test_a_file_that_changed_leaves_the_archive_unfinished(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    for content in (b"other", b"long", b""):
        file.write_bytes(content)
        promised = document("a", b"words")
        part = Part("a", promised.size_bytes, promised.sha256, lambda: file.open("rb"))
        sent, reason = sent_until_broken(OutgoingArchive(Kind.TENANT, [part], {}))
        assert "a is damaged" in reason
        with pytest.raises(InvalidArchive):
            read(sent)


class _Zeros(io.RawIOBase):
    """A large file that takes no space."""

    def __init__(self, size_bytes: int) -> None:
        self._left = size_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = min(len(buffer), self._left)
        buffer[:count] = bytes(count)
        self._left -= count
        return count


def test_a_large_file_is_sent_and_read_in_flat_memory(tmp_path: Path) -> None:
    size_bytes = 64 * 2**20
    sha256 = hashlib.sha256(bytes(size_bytes)).hexdigest()
    part = Part("a", size_bytes, sha256, lambda: io.BufferedReader(_Zeros(size_bytes)))
    file = tmp_path / "large.tar"
    tracemalloc.start()
    try:
        with file.open("wb") as out:
            out.writelines(OutgoingArchive(Kind.TENANT, [part], {}))
        with file.open("rb") as content:
            archive = ReadArchive(content, Kind.TENANT, lambda _: size_bytes)
            archive.copy("a", tmp_path / "a")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "a").stat().st_size == size_bytes
    assert peak < 8 * 2**20
