"""The file system of a store, which decides how the store is opened.

*local*: WAL with shared memory, so that other programs may read the file while it is in use. *network*, for file
systems that several hosts may use: one process on one host has the file to itself, and `owner` decides which one.
"""

import errno
import os
import re

from msgspec import Struct

from pilotmtc.errors import ConfigError
from pilotmtc.system import private_files

LOCAL, NETWORK, AUTO = "local", "network", "auto"
# Known to belong to this machine alone. All others (NFS, Lustre, GPFS, CephFS, BeeGFS, FUSE, CIFS, 9p, cluster file
# systems, layers over any of them, and future ones) may be shared with other hosts.
_OWN = frozenset(
    ("ext2", "ext3", "ext4", "xfs", "btrfs", "bcachefs", "zfs", "f2fs", "jfs", "reiserfs", "nilfs2", "tmpfs", "ramfs",
     "rootfs", "overlay", "aufs", "vfat", "exfat", "ntfs3", "ubifs", "jffs2", "hfsplus")
)  # fmt: skip
_MODE_BYTES = 100


class FileSystem(Struct, frozen=True):
    """A mounted file system: its type, where it is mounted, and from what."""

    type: str
    mount: str
    source: str

    @property
    def shared(self) -> bool:
        """Whether other hosts may use it at the same time."""
        return self.type not in _OWN


UNKNOWN = FileSystem("unknown", "", "")


class Opening(Struct, frozen=True):
    """How a store is opened, and why: `forced` by the user, or because of its file system."""

    mode: str
    file_system: FileSystem
    forced: bool = False


def find_mount(mountinfo: str, mount_id: int) -> FileSystem:
    """Return the file system of the mount `mount_id` from the text of ``/proc/self/mountinfo``."""
    for line in mountinfo.splitlines():
        # 36 35 98:0 /root /mount options [more ...] - type source options
        left, dash, right = line.partition(" - ")
        before, after = left.split(" "), right.split(" ")
        if dash and before[0] == str(mount_id) and len(before) >= 6 and len(after) >= 2:
            return FileSystem(after[0], _plain(before[4]), _plain(after[1]))
    return UNKNOWN


def file_system_of(directory: str) -> FileSystem:
    """Return the file system of `directory`; if that does not exist yet, of its nearest existing parent.

    Raises
    ------
    ConfigError
        If it cannot be examined at present, which says nothing about its type.
    """
    while True:
        try:
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # makes an automounter mount it
            break
        except FileNotFoundError:
            directory = os.path.dirname(directory)
        except OSError as error:
            return _unknown(directory, error)
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as info:
            found = re.search(r"^mnt_id:\s*(\d+)", info.read(), re.MULTILINE)
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            return UNKNOWN if found is None else find_mount(mounts.read(), int(found[1]))
    except OSError as error:
        return _unknown(directory, error)
    finally:
        os.close(fd)


def _unknown(directory: str, error: OSError) -> FileSystem:
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO):
        raise ConfigError(f"what {directory} lies on cannot be found out: {error.strerror}") from error
    return UNKNOWN  # opening the store will report what is wrong


def opening_of(store: str) -> Opening:
    """Return how the store at the real path `store` is opened.

    Raises
    ------
    ConfigError
        If the file that forces a mode is invalid.
    """
    file_system = file_system_of(os.path.dirname(store))
    if (mode := _written_mode(store)) in (LOCAL, NETWORK):
        return Opening(mode, file_system, forced=True)
    # One host's own disk may be mounted by others: as soon as one of those has come, all use network mode.
    shared = file_system.shared or (mode != AUTO and os.path.isdir(owner_directory(store)))
    return Opening(NETWORK if shared else LOCAL, file_system)


def set_mode(store: str, mode: str) -> None:
    """Force `mode` for all hosts when the store is next opened; with `AUTO`, the file system decides.

    Raises
    ------
    ConfigError
        If there is no such mode, or if it cannot be written.
    """
    if mode not in (LOCAL, NETWORK, AUTO):
        raise ConfigError(f"{mode!r} is no mode of a store: say {LOCAL}, {NETWORK} or {AUTO}")
    path = _mode_path(store)
    part = f"{path}.{os.getpid()}.part"
    try:
        if mode == AUTO and not os.path.isdir(owner_directory(store)):
            return
        private_files.make_directory(owner_directory(store))
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(f"{mode}\n")
            file.flush()
            os.fsync(file.fileno())
        os.rename(part, path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def owner_directory(store: str) -> str:
    """Return the directory in which hosts record who owns the store."""
    return f"{store}.owner"


def _mode_path(store: str) -> str:
    return os.path.join(owner_directory(store), "mode")


def _written_mode(store: str) -> str:
    path = _mode_path(store)
    try:
        with open(path, "rb") as file:
            mode = file.read(_MODE_BYTES).decode("utf-8", "replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise ConfigError(
            f"the store {store} cannot be used: {path}: {error.strerror}; "
            "choose another place with --store or PILOTMTC_STORE"
        ) from error
    if mode not in (LOCAL, NETWORK, AUTO):
        raise ConfigError(f"{path} holds {mode!r}, which is none of {LOCAL}, {NETWORK}, {AUTO}: correct or remove it")
    return mode


def _plain(word: str) -> str:
    r"""Undo the kernel's escapes for blanks and backslashes: ``\040`` is a blank."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), word)
