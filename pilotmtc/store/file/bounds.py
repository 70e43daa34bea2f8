"""The range of numbers that the store accepts."""

from msgspec import Struct

from pilotmtc.errors import UsageError

MOST = 2**53  # up to there JSON, SQLite and Python mean the same number


def check_numbers(record: Struct, what: str) -> None:
    """Raise `UsageError` if a number in `record`, or in a table in it, is negative, too large or not a number (NaN)."""
    for field in record.__struct_fields__:
        value = getattr(record, field)
        for number in value.values() if isinstance(value, dict) else (value,):
            if isinstance(number, int | float) and not 0 <= number <= MOST:
                raise UsageError(f"{what} cannot have {field} {number}: give a number from 0 to {MOST}")
