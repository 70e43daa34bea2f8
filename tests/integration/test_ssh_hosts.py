"""Which host it is, and the way to it: host keys, configuration, jumps, proxy commands."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotmtc.errors import ConfigError, ConnectError, LoginRefused
from pilotmtc.transport.openssh import OpenSshLink
from pilotmtc.transport.ssh.link import SshLink
from pilotmtc.transport.ssh.url import SshTarget, parse_url
from tests.lab.sshd import Client, Sshd, client, make_client, make_key, sshd
from tests.support import children

__all__ = ["client", "sshd"]  # fixtures


def greet(link: SshLink | OpenSshLink) -> None:
    channel = link.open("echo hello; cat")
    try:
        assert channel.read(100) == b"hello\n"
    finally:
        channel.close()
        link.close()


def public(sshd: Sshd) -> str:
    return " ".join(sshd.host_key.with_suffix(".pub").read_text().split()[:2])


@pytest.fixture
def target(sshd: Sshd, client: Client) -> SshTarget:
    return parse_url(client.url(sshd))


def test_unknown_host_is_refused_with_a_way_to_verify(sshd: Sshd, client: Client, target: SshTarget) -> None:
    client.known_hosts.write_text("")
    with pytest.raises(LoginRefused) as refused:
        SshLink(target).connect()
    listed = subprocess.run(
        ["ssh-keygen", "-lf", f"{sshd.host_key}.pub"], capture_output=True, text=True, check=True, timeout=20
    ).stdout.split()[1]
    assert listed in str(refused.value)
    assert f"ssh-keyscan -p {sshd.port} -t ed25519 127.0.0.1 | ssh-keygen -lf -" in str(refused.value)
    # What it says to do helps.
    command = f"ssh-keyscan -p {sshd.port} -t ed25519 127.0.0.1 >> {client.known_hosts}"
    assert command in str(refused.value)
    subprocess.run(command, shell=True, check=True, capture_output=True, timeout=20)
    greet(SshLink(target))


def test_changed_host_key_is_refused_with_the_line_that_differs(
    sshd: Sshd, client: Client, target: SshTarget, tmp_path: Path
) -> None:
    other = make_key(tmp_path / "other").with_suffix(".pub").read_text()
    client.known_hosts.write_text(f"# first line\n[127.0.0.1]:{sshd.port} {other}")
    with pytest.raises(LoginRefused, match=rf"line 2 of {client.known_hosts}.*ssh-keygen -R") as refused:
        SshLink(target).connect()
    remove = str(refused.value).partition("remove the old one with `")[2].partition("`")[0]
    subprocess.run(remove, shell=True, check=True, capture_output=True, timeout=20)
    assert "ssh-ed25519" not in client.known_hosts.read_text()


def test_hashed_entry_is_found(client: Client, target: SshTarget) -> None:
    subprocess.run(["ssh-keygen", "-H", "-f", client.known_hosts], check=True, capture_output=True, timeout=20)
    assert client.known_hosts.read_text().startswith("|1|")
    greet(SshLink(target))


def test_revoked_key_is_refused(sshd: Sshd, client: Client, target: SshTarget) -> None:
    client.known_hosts.write_text(f"{sshd.known_hosts_line}@revoked * {public(sshd)}\n")
    with pytest.raises(LoginRefused, match="revoked"):
        SshLink(target).connect()


def test_alias_of_the_host_key_counts(sshd: Sshd, client: Client, target: SshTarget) -> None:
    client.known_hosts.write_text(f"cluster {public(sshd)}\n")
    client.write_config("HostKeyAlias cluster\n")
    greet(SshLink(target))


def test_known_key_is_asked_for_where_a_host_has_several(client: Client, tmp_path: Path) -> None:
    with Sshd() as server:
        server.stop()
        second = make_key(server.directory / "second", kind="ecdsa")
        with open(server.directory / "sshd_config", "a", encoding="ascii") as config:
            config.write(f"HostKey {second}\n")
        server.restart()
        friend = make_client(tmp_path / "friend", server)
        for key in (server.host_key, second):
            words = key.with_suffix(".pub").read_text().split()
            friend.known_hosts.write_text(f"[127.0.0.1]:{server.port} {words[0]} {words[1]}\n")
            greet(SshLink(parse_url(friend.url(server))))


def test_configuration_in_the_home_directory_is_read(
    sshd: Sshd, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "elsewhere"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "known_hosts").write_text(sshd.known_hosts_line)
    client.key.rename(home / ".ssh" / "id_ed25519")
    (home / ".ssh" / "config").write_text(
        f"Host clu*\n HostName 127.0.0.1\n Port {sshd.port}\n User {sshd.account.name}\n"
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    greet(SshLink(parse_url("ssh://cluster/~/x.db")))


@pytest.mark.parametrize("hops", [1, 2])
def test_jump_hosts_lead_there(hops: int, sshd: Sshd, client: Client) -> None:
    jumps = "Host inner\n ProxyJump first\n" if hops == 1 else "Host inner\n ProxyJump first,second\n"
    client.write_config(
        f"{jumps}Host first second inner\n HostName 127.0.0.1\n Port {sshd.port}\n User {sshd.account.name}\n"
    )
    before = sshd.logins
    greet(SshLink(SshTarget(host="inner", path="x.db", config=str(client.config))))
    assert sshd.logins == before + hops + 1


def test_jump_host_does_not_jump_through_itself(sshd: Sshd, client: Client) -> None:
    client.write_config(
        f"Host *\n ProxyJump jump\nHost jump inner\n HostName 127.0.0.1\n Port {sshd.port}\n User {sshd.account.name}\n"
    )
    before = sshd.logins
    greet(SshLink(SshTarget(host="inner", path="x.db", config=str(client.config))))
    assert sshd.logins == before + 2


def test_jumps_in_a_circle_are_named(sshd: Sshd, client: Client) -> None:
    client.write_config("Host a\n ProxyJump b\nHost b\n ProxyJump a\n")
    with pytest.raises(ConfigError, match="round in circles"):
        SshLink(SshTarget(host="a", path="x.db", config=str(client.config))).connect()


def test_jump_that_leads_nowhere_is_named(sshd: Sshd, client: Client) -> None:
    client.write_config(
        f"Host jump\n HostName 127.0.0.1\n Port {sshd.port}\n User {sshd.account.name}\n"
        "Host inner\n HostName 127.0.0.1\n Port 1\n ProxyJump jump\n"
    )
    with pytest.raises(ConnectError, match=r"jump does not lead to 127\.0\.0\.1:1"):
        SshLink(SshTarget(host="inner", path="x.db", config=str(client.config))).connect()


def test_proxy_command_leads_there_and_ends_with_the_link(sshd: Sshd, client: Client, target: SshTarget) -> None:
    plain = client.home / "plain"
    plain.write_bytes(client.config.read_bytes())
    client.write_config(f"ProxyCommand ssh -F {plain} -p %p -l %r -W 127.0.0.1:%p %h\n")
    link = SshLink(target)
    channel = link.open("echo hello; cat")
    assert channel.read(100) == b"hello\n"
    assert any("-W 127.0.0.1" in command for command in children().values())
    link.close()
    assert not any("-W 127.0.0.1" in command for command in children().values())
    channel.close()


def test_failing_proxy_command_is_quoted(client: Client, target: SshTarget) -> None:
    client.write_config("ProxyCommand sh -c 'echo no way out >&2'\n")
    with pytest.raises(ConnectError, match="no way out") as refused:
        SshLink(target).connect()
    assert refused.value.transient


def test_wrong_configuration_is_quoted(client: Client, target: SshTarget) -> None:
    client.write_config("Potr 22\n")
    with pytest.raises(ConfigError, match=r"(?i)potr"):
        SshLink(target).connect()


@pytest.fixture
def system(sshd: Sshd, client: Client) -> Iterator[OpenSshLink]:
    link = OpenSshLink(parse_url(client.url(sshd, options="transport=openssh")))
    yield link
    link.close()


def test_system_s_ssh_leads_there_too(system: OpenSshLink) -> None:
    greet(system)


def test_system_s_ssh_says_how_the_command_ended(system: OpenSshLink) -> None:
    channel = system.open("echo word >&2; exit 7")
    assert channel.read(10) == b""
    assert channel.exit_status(10) == 7
    assert channel.last_words() == "word"


def test_system_s_ssh_is_refused_once(sshd: Sshd, system: OpenSshLink, client: Client) -> None:
    client.write_config("PubkeyAuthentication no\n")
    channel = system.open("true")
    with pytest.raises(LoginRefused, match=r"(?s)Permission denied.*ControlMaster"):
        channel.read(1)
    tried = sshd.logins_tried
    with pytest.raises(LoginRefused):
        system.open("true")
    assert sshd.logins_tried == tried


def test_system_s_ssh_refuses_unknown_hosts(system: OpenSshLink, client: Client) -> None:
    client.known_hosts.write_text("")
    channel = system.open("true")
    with pytest.raises(LoginRefused, match="Host key verification failed"):
        channel.read(1)


def test_system_s_ssh_tells_the_network_from_the_host(client: Client, sshd: Sshd) -> None:
    target = SshTarget(host="127.0.0.1", port=1, config=str(client.config), path="x.db", transport="openssh")
    link = OpenSshLink(target)
    channel = link.open("true")
    with pytest.raises(ConnectError, match="does not reach") as error:
        channel.read(1)
    assert error.value.transient
    link.close()
