"""The pure netifaces that comes with pilotmtc: what it says is what the kernel and the socket library say."""

import importlib.util
import socket
from ipaddress import IPv6Address
from pathlib import Path
from types import ModuleType

import pytest

import pilotmtc_adaptors


@pytest.fixture(name="netifaces")
def _netifaces() -> ModuleType:
    file = Path(pilotmtc_adaptors.__file__).parent / "netifaces" / "netifaces.py"
    spec = importlib.util.spec_from_file_location("pure_netifaces", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_interfaces_are_those_of_the_kernel(netifaces: ModuleType) -> None:
    assert netifaces.interfaces() == [name for _, name in socket.if_nameindex()]
    assert "lo" in netifaces.interfaces()


def test_loopback_has_its_addresses(netifaces: ModuleType) -> None:
    found = netifaces.ifaddresses("lo")
    assert {"addr": "127.0.0.1", "netmask": "255.0.0.0"} in found[netifaces.AF_INET]
    if Path("/proc/net/if_inet6").exists() and " lo\n" in Path("/proc/net/if_inet6").read_text():
        assert "::1" in [each["addr"] for each in found[netifaces.AF_INET6]]


def test_addresses_are_those_that_the_kernel_lists(netifaces: ModuleType) -> None:
    listed = set()  # address, interface
    for line in Path("/proc/net/if_inet6").read_text().splitlines() if Path("/proc/net/if_inet6").exists() else ():
        number, *_, name = line.split()
        listed.add((IPv6Address(int(number, 16)), name))
    said = {
        (IPv6Address(each["addr"].partition("%")[0]), name)
        for name in netifaces.interfaces()
        for each in netifaces.ifaddresses(name).get(netifaces.AF_INET6, ())
    }
    assert said == listed
    for name in netifaces.interfaces():
        for each in netifaces.ifaddresses(name).get(netifaces.AF_INET, ()):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mine:
                mine.bind((each["addr"], 0))  # only an address of this machine can be bound
        for each in netifaces.ifaddresses(name).get(netifaces.AF_PACKET, ()):
            assert each["addr"] == Path("/sys/class/net", name, "address").read_text().strip()


def test_interface_that_is_not_there_is_refused(netifaces: ModuleType) -> None:
    with pytest.raises(ValueError, match="valid interface"):
        netifaces.ifaddresses("no-such-interface")
