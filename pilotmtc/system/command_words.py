"""The words of programs that only pilotmtc itself starts: argparse would be a tenth of their start."""

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)


def read_words(argv: Sequence[str], kind: type[T], *places: str) -> T:
    """Return the record that the words make: ``--some-field VALUE``, or ``--some-field`` alone if it is a truth value.

    Parameters
    ----------
    places
        The fields that words without dashes are for, in order.

    Raises
    ------
    SystemExit
        If the words do not make one: it says why, with code 2.
    """
    types = {field.name: field.type for field in msgspec.structs.fields(kind)}
    found: dict[str, object] = {}
    left = list(places)
    words = iter(argv)
    for word in words:
        option, equals, value = word.partition("=")
        name = option.removeprefix("--").replace("-", "_")
        if not word.startswith("--") and left:
            found[left.pop(0)] = word
        elif not word.startswith("--") or name not in types or name in places:
            _refuse(f"{word!r} means nothing here")
        elif types[name] is bool:
            found[name] = True
        else:
            given = value if equals else next(words, None)
            if given is None:
                _refuse(f"{word} needs a value")
            found[name] = given
    try:
        return msgspec.convert(found, kind, strict=False, dec_hook=_path)
    except msgspec.ValidationError as error:
        _refuse(str(error))


def _path(kind: type, value: object) -> Path:
    assert kind is Path, kind
    return Path(str(value))


def _refuse(words: str) -> NoReturn:
    with contextlib.suppress(OSError):  # a log on a full disk
        os.write(2, f"pilotmtc: error: {words}\n".encode())
    sys.exit(2)
