"""What dialects share when they ask a scheduler: the account, a command's output, and the errors for it."""

import re
from collections.abc import Sequence

from pilotmtc.errors import AnswerLost, JobUnknown, StatusUnavailable, SubmitRejected
from pilotmtc_adaptors._dialect import Call, CallResult, Conversation

_TEXT_CHARACTERS = 500


def text_of(said: CallResult) -> str:
    """Return a command's output on one line, with its exit code."""
    words = " ".join((said.stderr.strip() or said.stdout.strip()).split())
    return f"{words[:_TEXT_CHARACTERS] or 'nothing'} (exit code {said.returncode})"


def user_name() -> Conversation[str]:
    """Return the name of this account."""
    said = yield Call(("id", "-un"), timeout_s=20)
    if said.returncode or not said.stdout.strip():
        raise StatusUnavailable(f"this account has no name: {text_of(said)}")
    return said.stdout.strip()


def not_submitted(
    said: CallResult, scheduler: str, command: str, *, cut_off: "re.Pattern[str]", unreachable: "re.Pattern[str]"
) -> StatusUnavailable | SubmitRejected:
    """Return the error of a submission that printed no job id.

    Parameters
    ----------
    cut_off, unreachable
        What the command prints if the scheduler may have accepted the job nevertheless, and if it cannot be reached.
    """
    text = text_of(said)
    if said.returncode <= 0 or cut_off.search(text):
        return AnswerLost(f"{command} did not say which job it made: {text}")
    if unreachable.search(text):
        return StatusUnavailable(f"{scheduler} cannot be reached: {text}")
    return SubmitRejected(f"{scheduler} refused the job: {text}")


def unknown(scheduler: str, batch_id: str) -> JobUnknown:
    """Return the error for a job that the scheduler does not know."""
    return JobUnknown(f"{scheduler} does not know job {batch_id} (any more)")


def foreign(ids: Sequence[str], pattern: "re.Pattern[str]", what: str) -> dict[str, JobUnknown]:
    """Return an error for each id that does not have the form of the scheduler's ids; `what` says what it should be."""
    return {each: JobUnknown(f"{each!r} is not {what}") for each in ids if not pattern.fullmatch(each)}
