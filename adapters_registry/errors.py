"""What the registry refuses, and why.

RegistryError
+-- InvalidName          +-- UnknownTenant      +-- AlreadyExists
+-- InvalidAdapter       +-- UnknownKey         +-- IllegalMove
+-- InvalidProfile       +-- UnknownAdapter     +-- StaleRevision
+-- StorageError         +-- UnknownVersion     +-- DatabaseUnavailable
+-- InvalidArchive                                  +-- OutcomeUnknown
+-- InvalidSource        +-- SourceUnavailable
ModelError

Of StorageError there are kinds: ArtifactDamaged here, and those of a bucket (`bucket.py`).
"""


class RegistryError(Exception):
    """A call that changed nothing (but for OutcomeUnknown).

    message: for the caller; names what is wrong and the fix, holds no key and no path.
    field: the argument, config field or tensor at fault.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class InvalidName(RegistryError):
    """A tenant, adapter or key name that does not follow the rules."""


class InvalidAdapter(RegistryError):
    """Adapter files that the engine would refuse, or would silently not apply."""


class InvalidProfile(RegistryError):
    """A serving profile or a policy with a field that cannot be used."""


class InvalidArchive(RegistryError):
    """A tenant's archive or a backup that is torn, damaged, or not what it should be."""


class UnknownTenant(RegistryError):
    """No such tenant, or a deleted one: the two look alike."""


class UnknownKey(RegistryError):
    """No such key of this tenant, or a revoked one."""


class UnknownAdapter(RegistryError):
    """No such adapter of this tenant."""


class UnknownVersion(RegistryError):
    """No such version of this adapter, or a deleted one."""


class AlreadyExists(RegistryError):
    """The name is taken."""


class IllegalMove(RegistryError):
    """A move that the version's state does not allow."""


class StaleRevision(RegistryError):
    """The adapter changed since the caller read it (`if_match`)."""


class StorageError(RegistryError):
    """Files or the database could not be written or read: disk full, damaged, not allowed."""


class ArtifactDamaged(StorageError):
    """A version's files are missing, or not what they were."""


class InvalidSource(RegistryError):
    """A place to fetch an adapter from that cannot be read, or holds none."""


class SourceUnavailable(RegistryError):
    """A place to fetch an adapter from that does not answer now."""


class DatabaseUnavailable(RegistryError):
    """The database does not answer; nothing was changed."""


class OutcomeUnknown(DatabaseUnavailable):
    """The database went away while it committed: the change was made whole, or not at all."""


class ModelError(Exception):
    """A base model that cannot be found, made or read; the message names the fix."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
