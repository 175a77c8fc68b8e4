"""Adapter files in a bucket, with a copy on each machine that an engine reads from.

The truth is the bucket, `<prefix>/<two digits>/<digest>/<file>`. Engines load from folders, so
content is fetched into the local store when it is first needed, and read from there afterwards.

Content counts once both of its objects are there. The weights are uploaded first and the
configuration last, so the small file is the mark that the large one is complete: no third object
is needed, whose loss would hide files that are good. Content is taken away in the other order.
"""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from adapters_registry.artifacts import (
    CONFIG_FILE,
    FILES,
    WEIGHTS_FILE,
    ArtifactStore,
    Content,
    Damage,
    content_digest,
    storing,
    sync_folder,
    write_synced,
)
from adapters_registry.bucket import Bucket, NoSuchObject, StoredObject
from adapters_registry.errors import ArtifactDamaged

_UPLOAD_ORDER = (WEIGHTS_FILE, CONFIG_FILE)


class S3ArtifactStore(ArtifactStore):
    """An ArtifactStore whose folders are copies of what lies in a bucket.

    Its calls may also raise the bucket's NoSuchObject, BucketRefused and BucketAway. What is on
    this machine already is served while the bucket is away.
    """

    def __init__(self, root: Path, bucket: Bucket) -> None:
        super().__init__(root)
        self._bucket = bucket

    def at_hand(self, digest: str) -> Path:
        return self.path_of(digest) if super().holds(digest) else self._fetch(digest)

    def verify(self, digest: str) -> Path:
        """As of a local store, but what is missing or damaged here is fetched anew."""
        try:
            return super().verify(digest)
        except ArtifactDamaged:
            return self._fetch(digest)

    def holds(self, digest: str) -> bool:
        return {name for name, _ in self._objects(digest)} >= set(FILES)

    def check(self, digest: str) -> Damage | None:
        """Reads the bucket's objects. A damaged copy on this machine is mended on the way."""
        try:
            found = content_digest({name: self._hash_object(digest, name) for name in FILES})
        except NoSuchObject:
            return Damage.MISSING
        if found != digest:
            return Damage.DAMAGED
        if super().holds(digest):
            self.verify(digest)
        return None

    def contents(self) -> Iterator[Content]:
        """Of the bucket and of this machine; the later time counts."""
        found = {content.digest: content for content in super().contents()}
        objects: dict[str, list[StoredObject]] = defaultdict(list)
        for each in self._bucket.listing():
            digits, _, rest = each.key.partition("/")
            digest, _, name = rest.partition("/")
            if name in FILES and digits == digest[:2]:
                objects[digest].append(each)
        for digest, parts in objects.items():
            times = [each.modified_at for each in parts]
            if digest in found:
                times.append(found[digest].stored_at)
            found[digest] = Content(digest, sum(each.size_bytes for each in parts), max(times))
        yield from found.values()

    def remove(self, digest: str, *, unless_after: datetime) -> bool:
        """From the bucket, then from this machine; other machines remove their copies themselves.

        The objects' times are read again here, by the bucket's clock.
        """
        objects = self._objects(digest)
        if any(each.modified_at > unless_after for _, each in objects):
            return False
        there = {name for name, _ in objects}
        self._bucket.delete(
            [_key(digest, name) for name in reversed(_UPLOAD_ORDER) if name in there]
        )
        return super().remove(digest, unless_after=unless_after) or bool(there)

    def _settle(self, staged: Path, digest: str) -> None:
        """Uploads also what is there already: that renews its time, and mends it if damaged."""
        for name in _UPLOAD_ORDER:
            self._bucket.put(_key(digest, name), staged / name)
        super()._settle(staged, digest)

    def _fetch(self, digest: str) -> Path:
        path = self.path_of(digest)
        with storing(), self._staging.folder() as staged:
            try:
                hashes = {
                    name: write_synced(staged / name, self._bucket.read(_key(digest, name))[1])
                    for name in FILES
                }
            except NoSuchObject as error:
                raise ArtifactDamaged(
                    f"artifact {digest[:12]} is missing in the bucket: push the adapter again to"
                    " restore it",
                    field="digest",
                ) from error
            if content_digest(hashes) != digest:
                raise ArtifactDamaged(
                    f"artifact {digest[:12]} is damaged in the bucket: push the adapter again to"
                    " restore it",
                    field="digest",
                )
            sync_folder(staged)
            self._place(staged, digest)
        return path

    def _objects(self, digest: str) -> list[tuple[str, StoredObject]]:
        folder = _key(digest, "")
        listed = ((each.key.removeprefix(folder), each) for each in self._bucket.listing(folder))
        return [(name, each) for name, each in listed if name in FILES]

    def _hash_object(self, digest: str, name: str) -> str:
        hashed = sha256()
        for piece in self._bucket.read(_key(digest, name))[1]:
            hashed.update(piece)
        return hashed.hexdigest()


def _key(digest: str, name: str) -> str:
    return f"{digest[:2]}/{digest}/{name}"
