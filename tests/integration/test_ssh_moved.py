"""Several login hosts with one store: clients go where it is."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotmtc.errors import ConfigError, ConnectError, LoginRefused, StoreMoved
from pilotmtc.protocol.client.maintenance import GetStore, SetMode
from pilotmtc.store.client.client import StoreClient
from pilotmtc.store.client.connect import connect_store
from pilotmtc.store.client.moved import MovedStore
from pilotmtc.store.location import COMMAND_VARIABLE, locate
from pilotmtc.store.ownership.owner import highest, parse
from pilotmtc.transport.ssh.link import SshLink
from pilotmtc.transport.ssh.url import parse_url
from tests.hosts import as_root
from tests.lab.machine import account_python
from tests.lab.sshd import Client, Sshd, client, make_client, sshd
from tests.support import wait_until

__all__ = ["client", "sshd"]  # fixtures


class Site:
    """Two login hosts, and a store in the home that they share."""

    def __init__(self, alpha: Sshd, beta: Sshd, directory: Path, home: Path) -> None:
        self.alpha = alpha
        self.beta = beta
        self.store = directory / "store.db"
        self.client = make_client(home, alpha)
        beta.authorize(self.client.key.with_suffix(".pub"))
        self.configure(f"Host alpha\n  HostName 127.0.0.1\n  Port {alpha.port}\n")
        self.known(alpha, beta)

    def configure(self, text: str) -> None:
        self.client.write_config(text)

    def known(self, *hosts: Sshd) -> None:
        self.client.known_hosts.write_text("".join(host.known_hosts_line for host in hosts))

    def url(self, host: Sshd, options: str = "") -> str:
        return self.client.url(host, f"/~/{self.store.parent.name}/store.db", options=options)

    @contextlib.contextmanager
    def served_by_alpha(self) -> Iterator[StoreClient]:
        with connect_store(self.url(self.alpha), patience_s=30) as store:
            store.call(SetMode("network"))
            wait_until(lambda: store.call(GetStore()).owner == "alpha")
            yield store


@contextlib.contextmanager
def a_site(alpha: Sshd, beta: Sshd, directory: Path) -> Iterator[Site]:
    """Give a site with a store that is not there yet; nothing of it remains."""
    home = alpha.account.home / f"{directory.parent.name}-{os.getpid()}"
    home.mkdir(mode=0o700)
    shutil.chown(home, alpha.account.name)
    made = Site(alpha, beta, home, directory / "client")
    yield made
    claims = f"{made.store}.owner"
    wait_until(lambda: parse(Path(claims, str(highest(claims))).read_bytes()).state == "released", 20)
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Sshd, Sshd]]:
    with Sshd(host="alpha") as alpha, Sshd(host="beta") as beta:
        yield alpha, beta


@pytest.fixture
def site(pair: tuple[Sshd, Sshd], tmp_path: Path) -> Iterator[Site]:
    with a_site(*pair, tmp_path) as made:
        yield made


@as_root
def test_client_goes_directly_to_the_host_that_has_the_store(site: Site) -> None:
    with site.served_by_alpha() as owner, connect_store(site.url(site.beta), patience_s=30) as other:
        before = site.alpha.logins
        assert other.call(GetStore()).pid == owner.call(GetStore()).pid
        assert site.alpha.logins == before + 1


@as_root
def test_client_goes_through_the_first_host_when_it_must(site: Site) -> None:
    site.configure(f"Host alpha\n  HostName 127.0.0.1\n  Port {site.alpha.port}\n  ProxyCommand false\n")
    before = site.beta.logins
    with site.served_by_alpha() as owner, connect_store(site.url(site.beta), patience_s=30) as other:
        assert other.call(GetStore()).pid == owner.call(GetStore()).pid
        assert site.beta.logins == before + 1  # one connection for beta itself and for the way to alpha


@as_root
def test_system_ssh_goes_through_the_first_host(site: Site) -> None:
    with (
        site.served_by_alpha() as owner,
        connect_store(site.url(site.beta, "transport=openssh"), patience_s=30) as other,
    ):
        before = site.beta.logins
        assert other.call(GetStore()).pid == owner.call(GetStore()).pid
        assert site.beta.logins >= before + 1


@as_root
def test_client_of_a_path_goes_by_ssh(site: Site) -> None:
    """The account's own client: what another user owns is used by nobody."""
    user = site.alpha.account.name
    home = site.store.parent / "home"
    own = home / ".ssh"
    own.mkdir(parents=True)
    (own / "config").write_text(f"Host alpha\n  HostName 127.0.0.1\n  Port {site.alpha.port}\n  User {user}\n")
    shutil.copy(site.client.known_hosts, own / "known_hosts")
    shutil.copy(site.client.key, own / "id_ed25519")
    for path in (home, own, *own.iterdir()):
        shutil.chown(path, user)
    own.chmod(0o700)
    ask = (
        "import sys; from pilotmtc.store.client.connect import connect_store\n"
        "from pilotmtc.protocol.client.maintenance import GetStore\n"
        "with connect_store(sys.argv[1], patience_s=30) as store: print(store.call(GetStore()).pid)"
    )
    argv = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", str(account_python()), "-P", "-c", ask]
    environment = {
        "HOME": str(home), "PATH": "/usr/bin:/bin", COMMAND_VARIABLE: str(site.alpha.bin / "pilotmtc"),
        "PILOTMTC_SERVER_RENEW_S": "0.3", "XDG_RUNTIME_DIR": str(home),
    }  # fmt: skip
    home.chmod(0o700)
    with site.served_by_alpha() as owner:
        before = site.alpha.logins
        done = subprocess.run(
            [*argv, str(site.store)], env=environment, cwd="/", capture_output=True, text=True, timeout=60, check=False
        )
        assert done.stdout.strip() == str(owner.call(GetStore()).pid), done.stderr
        assert site.alpha.logins == before + 1


@as_root
def test_way_there_that_is_refused_is_told_with_what_to_do(site: Site) -> None:
    with site.served_by_alpha() as store, connect_store(site.url(site.beta), patience_s=30) as other:
        site.known(site.beta)
        with pytest.raises(LoginRefused, match=r"(?s)alpha has the store.*not a known host.*ssh-keyscan.*`ssh alpha`"):
            other.call(GetStore())
        assert store.call(GetStore()).owner == "alpha"


@as_root
def test_client_comes_back_when_the_owner_dies_and_the_first_host_takes_over(tmp_path: Path) -> None:
    with Sshd(host="alpha") as alpha, Sshd(host="beta") as beta, a_site(alpha, beta, tmp_path) as site:
        with site.served_by_alpha() as owner, connect_store(site.url(beta), patience_s=30) as other:
            pid = other.call(GetStore()).pid
            owner.close()
            alpha.stop()
            os.kill(pid, 9)
            assert other.call(GetStore(), timeout_s=60).owner == "beta"
        alpha.restart()


def test_key_that_the_first_host_has_shown_needs_no_line_of_its_own(sshd: Sshd, client: Client) -> None:
    name = sshd.account.name
    client.write_config(f"Host twin\n  HostName 127.0.0.1\n  Port {sshd.port}\n  User {name}\n  HostKeyAlias twin\n")
    target = parse_url(f"ssh://twin/~/none.db?config={client.config}")
    first = SshLink(parse_url(client.url(sshd)))
    direct, second = SshLink(target), SshLink(target, through=first)
    with pytest.raises(LoginRefused, match="not a known host"):
        direct.connect()
    second.connect()
    for link in (second, direct, first):
        link.close()


@pytest.mark.parametrize("host", ["", "-oProxyCommand=x", "a b", "a;b", "x" * 300, "../x"])
def test_name_that_can_be_no_host_is_not_gone_to(host: str, tmp_path: Path) -> None:
    followed = MovedStore(locate(str(tmp_path / "store.db")))
    with pytest.raises(ConfigError, match="no host's name"):
        followed.connect(StoreMoved(f"moved: {host}: it has it"))
    followed.close()


def test_host_that_is_not_there_is_named_and_may_be_tried_again(tmp_path: Path) -> None:
    followed = MovedStore(locate(str(tmp_path / "store.db")))
    with pytest.raises(ConnectError, match=r"no-such-host\.invalid has the store, and there is no way there") as caught:
        followed.connect(StoreMoved("moved: no-such-host.invalid: it has it"))
    assert caught.value.transient
    followed.close()
