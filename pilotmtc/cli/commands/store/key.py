"""``pilotmtc store key``."""

from urllib.parse import quote

import click

from pilotmtc.cli.command import CommandGroup, command, open_session, store_option
from pilotmtc.cli.options.types import json_option
from pilotmtc.cli.output import streams
from pilotmtc.cli.output.keys import put_keys, shape


@click.group(
    "key",
    cls=CommandGroup,
    examples="pilotmtc store key new cluster\npilotmtc store key list\npilotmtc store key revoke cluster\n",
)
@store_option
def key() -> None:
    """Make, list and revoke keys that open this store over SSH, and nothing else: no shell, no file, no other store.

    They are made on the store's host, in its owner's account, for pilots that should not have one of your own keys.
    """


@command(
    "new", examples='pilotmtc store key new cluster\npilotmtc --store "ssh://login.site/~/store.db" store key new a\n'
)
@click.argument("name")
@json_option
def new(name: str, as_json: bool) -> None:
    """Make the key NAME, and print where its private part is.

    An existing key of that name is kept. The private part is on the store's host, readable by its owner only; the
    public part becomes a line in ~/.ssh/authorized_keys there.
    """
    with open_session(makes=True) as session:
        made = session.new_key(name)
    if as_json:
        streams.put_json(shape(made))
        return
    streams.put([made.path])
    streams.tell(f"the store's ssh:// URL with ?identity={quote(made.path)} at its end uses it")


@command("list", examples="pilotmtc store key list\n")
@json_option
def list_(as_json: bool) -> None:
    """List the keys, and show whether they open the store and whether their private parts exist."""
    with open_session() as session:
        put_keys(session.keys(), as_json)


@command("revoke", examples="pilotmtc store key revoke cluster\n")
@click.argument("name")
@json_option
def revoke(name: str, as_json: bool) -> None:
    """Revoke the key NAME, remove it, and close the connections that use it."""
    with open_session() as session:
        changed = session.revoke_key(name)
    if as_json:
        streams.put_json({"changed": int(changed)})
    else:
        streams.put([f"key {name} is revoked" if changed else f"there is no key {name}"])


for _command in (new, list_, revoke):
    key.add_command(_command)
