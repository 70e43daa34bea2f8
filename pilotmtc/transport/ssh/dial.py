"""TCP connections that notice when the other side has gone."""

import socket

from pilotmtc.errors import ConnectError


def dial(host: str, port: int, timeout_s: float) -> socket.socket:
    """Connect to the first address of `host` that answers.

    Raises
    ------
    ConnectError
        If none answers.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise ConnectError(f"the host {host} is not found: {error.strerror}") from error
    except UnicodeError as error:
        raise ConnectError(f"the host {host} is not found: {error}") from error
    trouble: OSError | None = None
    for family, kind, protocol, _, address in addresses:
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(timeout_s)
        try:
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # No TCP_USER_TIMEOUT: it ends connections to slow readers, whose window is never large, although data move.
            # `SshLink` sees whether they do.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as error:
            sock.close()
            trouble = error
        else:
            return sock
    why = trouble and (trouble.strerror or trouble)
    raise ConnectError(f"cannot connect to {host}, port {port}: {why}") from trouble
