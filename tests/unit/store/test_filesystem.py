"""What file system a store lies on, and the mode that follows."""

from pathlib import Path

import pytest

from pilotmtc.errors import ConfigError
from pilotmtc.store.ownership.filesystem import (
    AUTO,
    LOCAL,
    NETWORK,
    UNKNOWN,
    FileSystem,
    Opening,
    file_system_of,
    find_mount,
    opening_of,
    set_mode,
)

MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
41 27 0:45 / /home rw,relatime shared:7 master:3 - nfs4 filer.site:/export/home rw,vers=4.2
42 27 0:46 / /scratch rw,noatime - lustre 10.0.0.1@o2ib:/scratch rw,flock
43 27 0:47 /sub\\040dir /mnt/my\\040disk rw - fuse.sshfs me@host:/a\\134b rw,user_id=1000
44 27 0:48 / /gpfs rw,relatime - gpfs gpfs0 rw
45 44 0:49 / /gpfs/tmp rw - tmpfs tmpfs rw
46 27 0:50 / /shadowed rw - xfs /dev/a rw
47 46 0:51 / /shadowed rw - ceph mon:/ rw
"""


@pytest.mark.parametrize(
    ("mount_id", "type_", "mount", "shared"),
    [
        (27, "ext4", "/", False),
        (41, "nfs4", "/home", True),
        (42, "lustre", "/scratch", True),
        (43, "fuse.sshfs", "/mnt/my disk", True),
        (44, "gpfs", "/gpfs", True),
        (45, "tmpfs", "/gpfs/tmp", False),
        (46, "xfs", "/shadowed", False),
        (47, "ceph", "/shadowed", True),
    ],
)
def test_mount_is_found_by_its_number(mount_id: int, type_: str, mount: str, shared: bool) -> None:
    found = find_mount(MOUNTS, mount_id)
    assert (found.type, found.mount, found.shared) == (type_, mount, shared)


def test_escaped_words_are_read() -> None:
    assert find_mount(MOUNTS, 43) == FileSystem("fuse.sshfs", "/mnt/my disk", "me@host:/a\\b")


@pytest.mark.parametrize("text", ["", "nonsense", "27 1 - ext4", MOUNTS.replace(" - ", " "), "27 - - -", "- \n - "])
def test_what_is_not_understood_is_taken_to_be_shared(text: str) -> None:
    assert find_mount(text, 27) == UNKNOWN
    assert UNKNOWN.shared


@pytest.mark.parametrize(
    "type_",
    ["nfs", "nfs4", "lustre", "gpfs", "ceph", "fuse.ceph", "beegfs", "fuse", "fuse.sshfs", "fuseblk", "cifs", "smb3",
     "9p", "virtiofs", "afs", "panfs", "gfs2", "ocfs2", "orangefs", "ecryptfs", "something-new"],
)  # fmt: skip
def test_what_several_hosts_may_use_is_shared(type_: str) -> None:
    assert FileSystem(type_, "/", "").shared


def test_real_file_systems_are_found(tmp_path: Path) -> None:
    assert file_system_of("/proc/self").type == "proc"
    assert file_system_of("/dev/shm").type == "tmpfs"
    assert file_system_of(str(tmp_path / "not" / "there" / "yet")) == file_system_of(str(tmp_path))


@pytest.mark.parametrize("mode", [LOCAL, NETWORK])
def test_forced_mode_holds_for_whoever_comes(tmp_path: Path, mode: str) -> None:
    store = str(tmp_path / "store.db")
    set_mode(store, mode)
    assert opening_of(store) == Opening(mode, file_system_of(str(tmp_path)), forced=True)
    set_mode(store, AUTO)
    assert opening_of(store) == Opening(LOCAL, file_system_of(str(tmp_path)))


def test_nothing_is_made_to_find_out_what_is_found_out_anyway(tmp_path: Path) -> None:
    set_mode(str(tmp_path / "store.db"), AUTO)
    assert not (tmp_path / "store.db.owner").exists()


def test_store_that_another_host_shares_is_shared_here(tmp_path: Path) -> None:
    (tmp_path / "store.db.owner").mkdir()
    (tmp_path / "store.db.owner" / "17").touch()
    assert opening_of(str(tmp_path / "store.db")).mode == NETWORK


def test_unknown_mode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'nfs' is no mode.*local, network or auto"):
        set_mode(str(tmp_path / "store.db"), "nfs")


@pytest.mark.parametrize("content", [b"", b"netwrok\n", b"\xff\xfe", b"network " * 1000])
def test_nonsense_in_the_modes_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "store.db.owner").mkdir()
    (tmp_path / "store.db.owner" / "mode").write_bytes(content)
    with pytest.raises(ConfigError, match=r"store\.db\.owner/mode holds .* correct or remove it"):
        opening_of(str(tmp_path / "store.db"))


def test_modes_file_that_cannot_be_read_is_the_stores_trouble(tmp_path: Path) -> None:
    (tmp_path / "store.db.owner" / "mode").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"the store .*store\.db cannot be used: .*/mode: Is a directory; choose"):
        opening_of(str(tmp_path / "store.db"))
