"""Network interfaces and their addresses on Linux, as the C extension netifaces 0.11 gives them.

Only what radical.utils asks for is here: `interfaces`, `ifaddresses` and the families of addresses. The C library's
``getifaddrs`` (man 3 getifaddrs) knows the answers.
"""

import ctypes
import os
import socket
from collections.abc import Iterator

AF_INET = int(socket.AF_INET)
AF_INET6 = int(socket.AF_INET6)
AF_PACKET = AF_LINK = 17  # what Linux calls the family of hardware addresses

_BROADCAST, _POINT_TO_POINT = 0x2, 0x10  # <net/if.h>


class _Address(ctypes.Structure):  # struct ifaddrs
    pass


_Address._fields_ = [
    ("next", ctypes.POINTER(_Address)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.c_void_p),
    ("netmask", ctypes.c_void_p),
    ("other", ctypes.c_void_p),  # a broadcast address, or that of a point-to-point link's other end
    ("data", ctypes.c_void_p),
]


def interfaces() -> list[str]:
    """Return the names of this machine's network interfaces."""
    return [name for _, name in socket.if_nameindex()]


def ifaddresses(name: str) -> dict[int, list[dict[str, str]]]:
    """Return the addresses of an interface.

    Returns
    -------
    dict
        For each family (`AF_INET`, `AF_INET6`, `AF_PACKET`) a list of addresses, each with ``addr`` and, where there
        is one, ``netmask``, ``broadcast`` or ``peer``.

    Raises
    ------
    ValueError
        If there is no interface of that name.
    OSError
        If the addresses cannot be read.
    """
    if name not in interfaces():
        raise ValueError("You must specify a valid interface name.")  # netifaces' own words
    found: dict[int, list[dict[str, str]]] = {}
    for entry in _entries():
        if os.fsdecode(entry.name) != name or not entry.address:
            continue
        family = ctypes.c_ushort.from_address(entry.address).value
        words = {"addr": _text(entry.address), "netmask": _text(entry.netmask)}
        if entry.flags & _BROADCAST:
            words["broadcast"] = _text(entry.other)
        elif entry.flags & _POINT_TO_POINT:
            words["peer"] = _text(entry.other)
        words = {key: text for key, text in words.items() if text}
        if words:
            found.setdefault(family, []).append(words)
    return found


def _entries() -> Iterator[_Address]:
    libc = ctypes.CDLL(None, use_errno=True)
    first = ctypes.POINTER(_Address)()
    if libc.getifaddrs(ctypes.byref(first)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    try:
        at = first
        while at:
            yield at.contents
            at = at.contents.next
    finally:
        libc.freeifaddrs(first)


def _text(address: int | None) -> str:
    """Return the address in a struct sockaddr as text; an empty one if there is none."""
    if not address:
        return ""
    family = ctypes.c_ushort.from_address(address).value
    if family == AF_INET:
        return socket.inet_ntop(AF_INET, ctypes.string_at(address + 4, 4))
    if family == AF_INET6:
        text = socket.inet_ntop(AF_INET6, ctypes.string_at(address + 8, 16))
        scope = ctypes.c_uint32.from_address(address + 24).value
        return f"{text}%{socket.if_indextoname(scope)}" if scope else text
    if family == AF_PACKET:  # struct sockaddr_ll: the address's length, then the address
        length = ctypes.c_ubyte.from_address(address + 11).value
        return ctypes.string_at(address + 12, length).hex(":")
    return ""
