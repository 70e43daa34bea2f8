import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.errors import ConfigError, UsageError
from pilotmtc.store.access import authorized_keys, keys
from pilotmtc.store.access.authorized_keys import Line, change, parse, read

FOREIGN = b'# mine\n\nssh-rsa AAAAB3 me@home\nfrom="10.*",command="echo \\"a b\\"" ssh-ed25519 AAAAC3 you\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ssh" / "authorized_keys"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"ssh-ed25519 AAAA", Line(b"", b"AAAA", b"")),
        (b"  ssh-ed25519  AAAA  a comment of words ", Line(b"", b"AAAA", b"a comment of words")),
        (b"restrict ssh-rsa AAAA me", Line(b"restrict", b"AAAA", b"me")),
        (b'command="a \\" b" sk-ssh-ed25519@openssh.com AAAA x', Line(b'command="a \\" b"', b"AAAA", b"x")),
        (b'command="a\\\\" ssh-rsa AAAA x', None),  # a backslash escapes the quote whatever stands before it
        (b"# ssh-rsa AAAA", None),
        (b"", None),
        (b"words", None),
        (b'command="never ends ssh-rsa AAAA', None),
    ],
)
def test_lines_are_read_as_sshd_reads_them(line: bytes, found: Line | None) -> None:
    assert parse(line) == found


@given(st.binary())
def test_any_line_is_read(line: bytes) -> None:
    parse(line)


def test_file_and_directory_are_made_for_their_owner(file: Path) -> None:
    change(file, lambda line: False, b"ssh-rsa AAAA")
    assert file.read_bytes() == b"ssh-rsa AAAA\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("content", [FOREIGN, FOREIGN.rstrip(b"\n"), b"\xff\xfe not text\n", b"\n\n"])
def test_lines_of_others_stay_byte_by_byte(content: bytes, file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    file.chmod(0o640)
    change(file, lambda line: False, b"ssh-rsa AAAA new")
    change(file, lambda line: line == b"ssh-rsa AAAA new", b"ssh-rsa BBBB newer")
    change(file, lambda line: line == b"ssh-rsa BBBB newer")
    assert file.read_bytes() == content.rstrip(b"\n") + b"\n" if content.strip() else content
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_symbolic_link_stays_one(file: Path, tmp_path: Path) -> None:
    file.parent.mkdir()
    real = tmp_path / "dotfiles"
    real.write_bytes(FOREIGN)
    file.symlink_to(real)
    found = authorized_keys.locate(file)
    change(found, lambda line: False, b"ssh-rsa AAAA x")
    change(found, lambda line: line.endswith(b"x"))
    assert file.is_symlink()
    assert real.read_bytes() == FOREIGN


def test_change_by_another_program_in_the_middle_is_kept(file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(b"ssh-rsa OLD old\n")

    def meanwhile(line: bytes) -> bool:
        if b"HERS" not in file.read_bytes():
            with file.open("ab") as other:
                other.write(b"ssh-rsa HERS hers\n")
        return line == b"ssh-rsa OLD old"

    change(file, meanwhile)
    assert file.read_bytes() == b"ssh-rsa HERS hers\n"


def test_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/authorized_keys cannot be"):
        change(tmp_path / "file" / "authorized_keys", lambda line: False, b"x")


def test_key_is_made_listed_and_revoked(tmp_path: Path, file: Path) -> None:
    store = tmp_path / "a store.db"
    made = keys.new_key(store, "pilot-1", file=file)
    assert keys.new_key(store, "pilot-1", file=file) == made
    assert keys.list_keys(store, file=file) == (made,)
    assert made.authorized
    assert made.private
    private = Path(made.path)
    assert private == tmp_path / "a store.db.d" / "keys" / "pilot-1"
    assert private.read_text().startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE(private.parent.stat().st_mode) == 0o700
    (line,) = read(file)[:-1]
    assert line.startswith(b'restrict,command="exec ')
    assert line.endswith(b":pilot-1")
    assert keys.revoke_key(store, "pilot-1", file=file)
    assert not keys.revoke_key(store, "pilot-1", file=file)
    assert keys.list_keys(store, file=file) == ()
    assert file.read_bytes() == b""
    assert not private.exists()


def test_revoking_cuts_nobody_else(tmp_path: Path, file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(FOREIGN)
    one, other = tmp_path / "one.db", tmp_path / "other.db"
    for store in (one, other):
        for name in ("a", "ab"):
            keys.new_key(store, name, file=file)
    before = read(file)
    keys.revoke_key(one, "a", file=file)
    gone = set(before) - set(read(file))
    assert len(gone) == 1
    assert gone.pop().endswith(b":a")
    assert [key.name for key in keys.list_keys(one, file=file)] == ["ab"]
    assert [key.name for key in keys.list_keys(other, file=file)] == ["a", "ab"]
    assert read(file)[:4] == FOREIGN.split(b"\n")[:4]


def test_half_a_key_is_made_whole(tmp_path: Path, file: Path) -> None:
    store = tmp_path / "store.db"
    made = keys.new_key(store, "a", file=file)
    file.write_bytes(FOREIGN)  # somebody has removed the line
    assert [key.authorized for key in keys.list_keys(store, file=file)] == [False]
    Path(f"{made.path}.pub").unlink()
    assert keys.new_key(store, "a", file=file) == made
    Path(made.path).unlink()
    assert [(key.authorized, key.private) for key in keys.list_keys(store, file=file)] == [(True, False)]
    anew = keys.new_key(store, "a", file=file)
    assert anew.fingerprint != made.fingerprint
    assert len([line for line in read(file) if line.endswith(b":a")]) == 1


def test_more_options_on_a_line_are_left(tmp_path: Path, file: Path) -> None:
    store = tmp_path / "store.db"
    keys.new_key(store, "a", file=file)
    stricter = b'from="10.0.0.0/8",' + file.read_bytes()
    file.write_bytes(stricter)
    keys.new_key(store, "a", file=file)
    assert file.read_bytes() == stricter


def test_damaged_private_part_is_no_excuse_for_an_open_door(tmp_path: Path, file: Path) -> None:
    store = tmp_path / "store.db"
    made = keys.new_key(store, "a", file=file)
    secret = Path(made.path).read_text().splitlines()[2]
    Path(made.path).write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n" + secret + "\n")
    with pytest.raises(ConfigError, match="revoke") as error:
        keys.new_key(store, "a", file=file)
    assert secret not in str(error.value)
    assert keys.revoke_key(store, "a", file=file)
    assert keys.list_keys(store, file=file) == ()


@pytest.mark.parametrize("name", ["", "../a", "a/b", ".hidden", "-q", "a b", "a\nssh-rsa AAAA", "a.pub", "x" * 65, "é"])
def test_name_that_could_be_more_than_a_name_is_refused(name: str, tmp_path: Path, file: Path) -> None:
    with pytest.raises(UsageError, match="cannot be a key's name"):
        keys.new_key(tmp_path / "store.db", name, file=file)
    assert not file.exists()


def test_path_that_would_be_a_line_of_its_own_is_refused(tmp_path: Path, file: Path) -> None:
    with pytest.raises(ConfigError, match="control characters"):
        keys.new_key(tmp_path / 'a"\nssh-rsa AAAA evil\n#.db', "a", file=file)
    assert not file.exists()
    assert os.listdir(tmp_path) == ["home"]
