"""Which ends of an attempt are retried, when, and how much more the next attempt asks for. Pure."""

import math
import re
from collections.abc import Sequence
from typing import cast

from msgspec.structs import replace

from pilotmtc.errors import UsageError, shown
from pilotmtc.model import Resources, Template
from pilotmtc.states import NOT_CHARGED, Cause
from pilotmtc.units import format_memory

_WORDS = {"exit": Cause.EXIT, "signal": Cause.SIGNAL, "timeout": Cause.TIMEOUT, "oom": Cause.OOM}
_WORDS["launch-error"] = Cause.LAUNCH_ERROR
_FORMS = f"write {', '.join(_WORDS)}, or exit:75,137"
GROWS = frozenset({Cause.OOM, Cause.TIMEOUT})  # causes after which more may be asked for
_MOST_FACTOR = 1000.0
_LONGEST_BACKOFF_S = 3600.0


def parse_causes(value: object) -> tuple[str, ...]:
    """Return causes, in a text or in several: ``"exit:75,137 oom"`` becomes ``("exit:75", "exit:137", "oom")``.

    Between them are blanks or commas.

    Raises
    ------
    UsageError
        If one of them is none that can be retried, or if there are none.
    """
    texts = value if isinstance(value, list | tuple) else [value]
    found: list[str] = []
    for text in texts:
        if not isinstance(text, str):
            raise UsageError(f"{shown(text)} is not a cause: {_FORMS}")
        for word in text.split():
            found += _parse_word(word)
    if not found:
        raise UsageError(f"there is no cause: {_FORMS}")
    return tuple(dict.fromkeys(found))


def _parse_word(text: str) -> list[str]:
    """Return the causes in ``"exit:75,137"`` or ``"oom,timeout"``: behind ``exit:``, numbers are codes of it."""
    found: list[str] = []
    codes = False
    for word in text.lower().replace("_", "-").split(","):
        cause, colon, code = word.partition(":")
        if codes and word.isdecimal():
            cause, colon, code = "exit", ":", word
        known = _WORDS.get(cause)
        if known is None:
            taken = [one.name.lower().replace("_", "-") for one in sorted(NOT_CHARGED)]
            why = " is not the task's fault, so it always runs again" if cause in taken else " is not a cause"
            if codes:
                why = f" in {text!r} is neither an exit code nor a cause"
            raise UsageError(f"{word!r}{why}: {_FORMS}")
        codes = bool(colon)
        if not colon:
            found.append(cause)
            continue
        if known is not Cause.EXIT:
            raise UsageError(f"{word!r}: only exit can have numbers behind it: {_FORMS}")
        if not re.fullmatch(r"\d{1,3}", code) or not 1 <= int(code) <= 255:
            raise UsageError(f"{code!r} in {text!r} is not an exit code of a failure: write 1 to 255")
        found.append(f"exit:{int(code)}")
    return found


def is_cause(word: str) -> bool:
    """Return whether a word can only be meant as causes: ``oom``, ``exit:75``."""
    try:
        return bool(_parse_word(word))
    except UsageError:
        return False


def parse_factor(value: object) -> float:
    """Return the factor in ``"x1.5"`` or ``1.5``.

    Raises
    ------
    UsageError
        If it is none, or not above 1.
    """
    text = value.strip().lower().removeprefix("x") if isinstance(value, str) else value
    try:
        factor = math.nan if isinstance(text, bool) else float(cast("str | float", text))
    except (TypeError, ValueError, OverflowError):
        factor = math.nan
    if 1.0 < factor <= _MOST_FACTOR:
        return factor
    raise UsageError(f"{shown(value)} is not a factor to grow by: write x2 or x1.5, at most x{_MOST_FACTOR:g}")


def check_growth(template: Template, needs: Resources) -> None:
    """Raise `UsageError` if an amount is to grow that is not there, or what is said of retries cannot be meant."""
    said = [
        *([f"retries after {causes_words(template.retry_on)}"] if template.retry_on else ()),
        *([f"no retry after {causes_words(template.no_retry_on)}"] if template.no_retry_on else ()),
        *([f"memory that grows x{template.retry_memory:g} with a retry"] if template.retry_memory > 1 else ()),
        *([f"a time limit that grows x{template.retry_time:g} with a retry"] if template.retry_time > 1 else ()),
    ]
    if said and not template.max_retries:
        raise UsageError(f"{said[0]}: but there are no retries, so say how many")
    if both := [one for one in template.retry_on if one in template.no_retry_on]:
        raise UsageError(f"a retry after {causes_words(both)} is both asked for and ruled out: choose one of them")
    if template.retry_memory > 1 and not needs.memory_bytes:
        raise UsageError(f"memory cannot grow x{template.retry_memory:g}: say how much the first attempt has")
    if template.retry_time > 1 and not needs.time_limit_s:
        raise UsageError(f"the time limit cannot grow x{template.retry_time:g}: say what it is for the first attempt")
    if most := template.max_memory_bytes:
        words = f"at most {format_memory(most)} of memory"
        if template.retry_memory <= 1:
            raise UsageError(f"{words}: but no memory grows, so say by which factor, such as x2")
        if most < needs.memory_bytes:
            raise UsageError(f"{words} is less than the first attempt has ({format_memory(needs.memory_bytes)})")


def is_retried(template: Template, cause: Cause, exit_code: int | None) -> bool:
    """Return whether the task may be retried after this end, if it has retries left."""
    return (not template.retry_on or _is_among(template.retry_on, cause, exit_code)) and not _is_among(
        template.no_retry_on, cause, exit_code
    )


def _is_among(causes: Sequence[str], cause: Cause, exit_code: int | None) -> bool:
    return any(
        _WORDS[word] is cause and (not code or int(code) == exit_code)
        for word, _, code in (one.partition(":") for one in causes)
    )


def grown(template: Template, needs: Resources, cause: Cause) -> Resources:
    """Return what the next attempt asks for after one that ended so: `needs`, or more."""
    if cause is Cause.OOM and template.retry_memory > 1 and needs.memory_bytes:
        more = math.ceil(needs.memory_bytes * template.retry_memory)
        most = max(template.max_memory_bytes or 2**52, needs.memory_bytes)  # it may have been edited
        return replace(needs, memory_bytes=min(more, most))
    if cause is Cause.TIMEOUT and template.retry_time > 1 and needs.time_limit_s:
        return replace(needs, time_limit_s=min(needs.time_limit_s * template.retry_time, 1e9))
    return needs


def retry_pause_s(backoff_s: float, failures: int) -> float:
    """Return the pause before a retry: it doubles with each failure."""
    return min(backoff_s * 2.0 ** min(max(failures - 1, 0), 60), _LONGEST_BACKOFF_S)


def causes_words(causes: Sequence[str]) -> str:
    """Return causes as users write them: ``exit:75,137 oom``."""
    codes = [word.partition(":")[2] for word in causes if ":" in word]
    return " ".join([*([f"exit:{','.join(codes)}"] if codes else []), *[word for word in causes if ":" not in word]])
