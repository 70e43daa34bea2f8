"""Digests. ``hashlib`` brings OpenSSL, 5 MB and some milliseconds: only who needs it for much data has it."""

from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["blake2b", "sha256", "sha256_of_file"]

try:
    from _blake2 import blake2b
except ImportError:  # this Python was built without it
    from hashlib import blake2b


def sha256(data: bytes = b"") -> "_Hash":
    """Return the SHA-256 of `data`, which more can be added to."""
    import hashlib

    return hashlib.sha256(data)


def sha256_of_file(file: IO[bytes]) -> "_Hash":
    """Return the SHA-256 of what is left of a file, which more can be added to."""
    import hashlib

    return hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]
