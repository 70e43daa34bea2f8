"""What the SSH configuration means."""

from pathlib import Path

import pytest

from pilotmtc.errors import ConfigError
from pilotmtc.transport.ssh.config import Hop, HostOptions, host_options, parse_jumps, parse_settings, public_part

BASE = """\
host clu
user bob
hostname login.site
port 2222
identitiesonly no
identityfile ~/.ssh/%r-%h
identityfile ~/.ssh/id_none
userknownhostsfile ~/.ssh/a ~/.ssh/b
globalknownhostsfile /etc/ssh/ssh_known_hosts
pubkeyauthentication true
passwordauthentication yes
kbdinteractiveauthentication yes
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SSH_AUTH_SOCK", "/agent")
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "bob-login.site").touch()
    return tmp_path


def options(more: str = "", hop: Hop = Hop("clu"), identity: str | None = None) -> HostOptions:  # noqa: B008
    return host_options(hop, parse_settings(more + BASE), identity)


def test_settings_are_taken_over(home: Path) -> None:
    found = options()
    assert (found.host, found.port, found.user, found.alias) == ("login.site", 2222, "bob", "clu")
    assert found.known_as == "[login.site]:2222"
    assert found.known_hosts == (f"{home}/.ssh/a", f"{home}/.ssh/b", "/etc/ssh/ssh_known_hosts")
    assert found.identities == (f"{home}/.ssh/bob-login.site",)
    assert found.agent == "/agent"
    assert found.methods == {"publickey", "password", "keyboard-interactive"}
    assert str(found) == "bob@login.site:2222"


def test_words_of_the_url_come_first() -> None:
    found = options(hop=Hop("clu", "eve", 22))
    assert (found.user, found.port, found.known_as) == ("eve", 22, "login.site")


def test_defaults_where_nothing_is_said(home: Path) -> None:
    (home / ".ssh" / "id_rsa").touch()
    found = host_options(Hop("Host"), {})
    assert (found.host, found.port, found.known_as) == ("Host", 22, "host")
    assert found.identities == (f"{home}/.ssh/id_rsa",)
    assert found.known_hosts[0] == f"{home}/.ssh/known_hosts"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("proxycommand nc -X %% %h %p %r %n", "nc -X % login.site 2222 bob clu"),
        ("proxycommand none", None),
        ("proxycommand x %z", "x %z"),
    ],
)
def test_proxy_command_is_filled_in(line: str, value: str | None) -> None:
    assert options(f"{line}\n").proxy_command == value


def test_alias_and_methods_and_agent() -> None:
    found = options("hostkeyalias The-Alias\npasswordauthentication no\nidentityagent none\nconnecttimeout 7\n")
    assert found.known_as == "The-Alias"
    assert "password" not in found.methods
    assert found.agent == ""
    assert found.connect_timeout_s == 7
    assert options("identityagent ~/%r.sock\n").agent.endswith("/bob.sock")
    assert options("identityagent $SSH_AUTH_SOCK\n").agent == "/agent"


def test_named_identity_is_the_only_one(home: Path) -> None:
    key = home / "own"
    key.touch()
    found = options(identity=str(key))
    assert found.identities == (str(key),)
    assert found.identities_only
    with pytest.raises(ConfigError, match="cannot read the private key"):
        options(identity="/no/such/key")


def test_jumps_are_read() -> None:
    assert parse_jumps("a@b:23, [::1]:24,ssh://c") == (Hop("b", "a", 23), Hop("::1", None, 24), Hop("c"))
    assert options("proxyjump none\n").jumps == ()
    assert options("proxyjump x,y\n").jumps == (Hop("x"), Hop("y"))


@pytest.mark.parametrize("text", ["", "a,,b", "-oX", "a:b", "a b"])
def test_wrong_jump_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match="ProxyJump"):
        parse_jumps(text)


def test_public_half_lies_beside_the_key(home: Path) -> None:
    (home / "k.pub").write_text("ssh-ed25519 QUJD me\n")
    assert public_part(str(home / "k")) == b"ABC"
    (home / "k.pub").write_text("nonsense")
    assert public_part(str(home / "k")) is None
    assert public_part(str(home / "none")) is None
