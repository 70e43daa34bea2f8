"""How node workers find their agent: by a file in the pilot's directory that only its owner can read.

Nothing of it is on a command line, because it contains the keys that let a worker in.
"""

import os
import socket
from pathlib import Path
from typing import cast

import msgspec
import zmq
from msgspec import Struct

from pilotmtc.errors import ConfigError

NAME = "contact"
OVER = "over"  # replaces it when the agent has exited, for workers that start late
NETWORK = "PILOTMTC_NETWORK"


class Contact(Struct, frozen=True):
    """What a node worker must know.

    Attributes
    ----------
    address
        Of the agent, as ``tcp://10.0.0.1:40000``.
    server_key, public_key, secret_key
        CURVE keys of this pilot: the agent's public one, and the workers' pair.
    lost_s
        How long agent and worker wait for each other's signs of life.
    pilot, store, directory
        For the environment of tasks.
    cores
        Number of cores of each node, by name; "": for all other nodes; 0: all cores.
    gpus, memory_bytes
        Amounts on each node; 0: all memory.
    pin
        Whether tasks are bound to their cores.
    environ
        The agent's environment, so that tasks have the same variables on all nodes.
    """

    address: str
    server_key: bytes
    public_key: bytes
    secret_key: bytes
    lost_s: float
    pilot: int
    store: str
    directory: str
    cores: dict[str, int]
    gpus: int
    memory_bytes: int
    pin: bool
    environ: dict[str, str]

    def cores_of(self, node: str) -> int:
        """Return the number of cores of a node, whose name may or may not have its domain; 0: all cores."""
        short = {name.partition(".")[0]: count for name, count in self.cores.items()}
        return self.cores.get(node) or short.get(node.partition(".")[0]) or self.cores.get("", 0)

    def write(self, path: Path) -> None:
        """Write it, at once, to a file that only its owner can read."""
        new = path.with_name(f"{path.name}.new")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, msgspec.json.encode(self))
        finally:
            os.close(fd)
        new.rename(path)

    @classmethod
    def read(cls, path: Path) -> "Contact":
        """Read what `write` has written.

        Raises
        ------
        ConfigError
            If it cannot be read.
        """
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except OSError as error:
            raise ConfigError(f"cannot read how to reach the agent: {path}: {error.strerror}") from error
        except msgspec.DecodeError as error:
            raise ConfigError(f"{path} is not a contact file of this version of pilotmtc: {error}") from error


def descriptor(socket: "zmq.Socket[bytes]") -> int:
    """Return the descriptor to poll for `socket`; `readable` says whether there is a message."""
    return int(cast("int", socket.fd))


def readable(socket: "zmq.Socket[bytes]") -> bool:
    """Return whether there is a message. Ask until there is none, because the descriptor signals only changes."""
    return bool(int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)


def own_address(other: str | None, default: str = "") -> str:
    """Return the address of this host on the network to `other`; without one, `default` or loopback's address.

    ``$PILOTMTC_NETWORK`` overrides it: an address of this host, or the name of a network interface.

    Raises
    ------
    ConfigError
        If the variable is neither.
    """
    wish = os.environ.get(NETWORK)
    if wish:
        try:
            return socket.gethostbyname(wish) if not wish.isalnum() else _of_interface(wish)
        except OSError as error:
            raise ConfigError(f"{NETWORK}={wish} is not an address or interface of this host: {error}") from error
    if other is None:
        return default or "127.0.0.1"
    for target in (other, socket.gethostname()):
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.connect((target, 9))  # sends nothing, but asks the kernel for the route
                return str(probe.getsockname()[0])
        except OSError:
            continue
    raise ConfigError(
        f"no address of this host leads to {other}: set {NETWORK} to the one on the nodes' network, or its interface"
    )


def _of_interface(name: str) -> str:
    import fcntl
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        found = fcntl.ioctl(probe.fileno(), 0x8915, struct.pack("256s", name.encode()[:15]))  # SIOCGIFADDR
    return socket.inet_ntoa(found[20:24])
