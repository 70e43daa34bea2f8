"""ssh:// URLs, and words for unknown shells."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.errors import ConfigError
from pilotmtc.transport.ssh.url import SshTarget, parse_url, quote_word, remote_command


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("ssh://h/x.db", SshTarget("h", path="/x.db")),
        ("ssh://me@Login.Site:22/~/runs/store.db", SshTarget("Login.Site", "me", 22, "~/runs/store.db")),
        ("ssh://h/~bob/x.db", SshTarget("h", path="~bob/x.db")),
        ("ssh://[2001:db8::1]:2222//x.db", SshTarget("2001:db8::1", port=2222, path="//x.db")),
        ("ssh://a%5Cb@h/a%20b%23.db", SshTarget("h", "a\\b", path="/a b#.db")),
        (
            "ssh://h/x.db?command=a%20%26%26%20b&config=c&identity=~/i&transport=openssh",
            SshTarget("h", path="/x.db", command="a && b", config="c", identity="~/i", transport="openssh"),
        ),
    ],
)
def test_url_is_read_and_written_alike(url: str, target: SshTarget) -> None:
    assert parse_url(url) == target
    assert parse_url(str(target)) == target


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://h/x", "not an ssh:// URL"),
        ("ssh:///x", "names no host"),
        ("ssh://-oProxyCommand=x/y", "names no host"),
        ("ssh://-l@h/y", "not a valid user name"),
        ("ssh://h", "names no file"),
        ("ssh://h/", "names no file"),
        ("ssh://h/~", "names no file"),
        ("ssh://h/~bob", "names no file"),
        ("ssh://h/~/runs/", "names no file"),
        ("ssh://h:x/y", "write it like"),
        ("ssh://h:99999/y", "write it like"),
        ("ssh://h/y#z", "%23"),
        ("ssh://h/y%0Az", "control character"),
        ("ssh://h/y?comand=z", "unknown option comand"),
        ("ssh://h/y?command", "name=value"),
        ("ssh://h/y?transport=telnet", "transport is one of paramiko, openssh"),
    ],
)
def test_wrong_url_is_refused_with_words(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_url(url)


def test_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="password does not belong") as refused:
        parse_url("ssh://me:secret@h/x")
    assert "secret" not in str(refused.value)


@given(st.text(st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cs", "Cc"])))
def test_quoted_word_is_one_word_to_a_shell(word: str) -> None:
    tilde = quote_word(word)
    assert shlex.split(tilde) == [word]


def test_home_is_left_to_the_shell_there() -> None:
    assert quote_word("~/a b") == r"~/a\ b"
    assert quote_word("~bob/x") == "~bob/x"
    assert quote_word("a~") == r"a\~"
    assert quote_word("~a b/x") == r"\~a\ b/x"


def test_shell_makes_room_for_the_program() -> None:
    assert remote_command("pilotmtc", "serve", "~/x y") == r"exec pilotmtc serve ~/x\ y"
    assert remote_command("module load x && pilotmtc", "serve", "/x") == "module load x && pilotmtc serve /x"
