"""known_hosts files."""

import base64
import hashlib
import hmac
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.errors import LoginRefused
from pilotmtc.transport.ssh.known_hosts import KeyMatch, judge, known_kinds, read_entries, refuse_unless_known

KEY, OTHER = b"key", b"other"


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def hashed(name: str) -> str:
    salt = b"0123456789abcdefghij"
    return f"|1|{coded(salt)}|{coded(hmac.digest(salt, name.encode(), hashlib.sha1))}"


def verdict(tmp_path: Path, text: str, name: str = "host", kind: str = "ssh-ed25519", key: bytes = KEY) -> KeyMatch:
    file = tmp_path / "known_hosts"
    file.write_text(text)
    return judge(read_entries([str(file), "/no/such/file"]), name, kind, key)[0]


@pytest.mark.parametrize(
    ("names", "name", "found"),
    [
        ("host", "host", True),
        ("HOST", "host", True),
        ("a,host,b", "host", True),
        ("hos", "host", False),
        ("*.site", "login.site", True),
        ("l?gin.site", "login.site", True),
        ("*.site,!login.site", "login.site", False),
        ("[host]:2222", "[host]:2222", True),
        ("[*]:2222", "[host]:2222", True),
        ("host", "[host]:2222", False),
        ("[host]:2222", "host", False),
        (hashed("host"), "host", True),
        (hashed("[host]:22"), "[host]:22", True),
        (hashed("host"), "tsoh", False),
        ("|1|nonsense", "host", False),
        ("|1|a|b", "host", False),
    ],
)
def test_names_match_as_ssh_has_them(names: str, name: str, found: bool, tmp_path: Path) -> None:
    wanted = KeyMatch.KNOWN if found else KeyMatch.UNKNOWN
    assert verdict(tmp_path, f"{names} ssh-ed25519 {coded(KEY)} comment\n", name) is wanted


def test_verdicts(tmp_path: Path) -> None:
    line = f"host ssh-ed25519 {coded(KEY)}\n"
    assert verdict(tmp_path, "") is KeyMatch.UNKNOWN
    assert verdict(tmp_path, line) is KeyMatch.KNOWN
    assert verdict(tmp_path, line, key=OTHER) is KeyMatch.CHANGED
    assert verdict(tmp_path, line, kind="ssh-rsa") is KeyMatch.CHANGED
    assert verdict(tmp_path, f"host ssh-rsa {coded(OTHER)}\n{line}") is KeyMatch.KNOWN
    assert verdict(tmp_path, f"{line}@revoked * ssh-ed25519 {coded(KEY)}\n") is KeyMatch.REVOKED
    assert verdict(tmp_path, f"@cert-authority * ssh-ed25519 {coded(KEY)}\n") is KeyMatch.UNKNOWN
    assert verdict(tmp_path, "# host\n\nhost\nhost ssh-ed25519 ???\n") is KeyMatch.UNKNOWN


def test_kinds_that_are_known_are_listed(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"host ssh-rsa {coded(KEY)}\nx ssh-dss {coded(KEY)}\n@revoked host y {coded(KEY)}\n")
    assert known_kinds(read_entries([str(file)]), "host") == ["ssh-rsa"]


def test_refusal_names_the_commands(tmp_path: Path) -> None:
    file = str(tmp_path / "known_hosts")
    with pytest.raises(LoginRefused, match=r"ssh-keyscan -t rsa host \| ssh-keygen -lf -") as refused:
        refuse_unless_known([file], "host", "me@host", "ssh-rsa", KEY)
    assert f"ssh-keyscan -t rsa host >> {file}" in str(refused.value)
    assert not refused.value.transient


@given(st.binary(max_size=300))
def test_no_file_confuses_it(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.mktemp("known") / "hosts"
    file.write_bytes(data)
    assert judge(read_entries([str(file)]), "host", "ssh-rsa", KEY)[0] is not KeyMatch.KNOWN
