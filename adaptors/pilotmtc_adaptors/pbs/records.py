"""Turn the output of qstat into records: JSON of OpenPBS and PBS Pro, XML of Torque."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TypeAlias
from xml.etree import ElementTree

import msgspec

from pilotmtc.errors import StatusUnavailable
from pilotmtc_adaptors._dialect import JobRecord, JobState
from pilotmtc_adaptors._pbs_endings import ending

Attributes: TypeAlias = Mapping[str, object]

_STATES = {
    "Q": JobState.PENDING,
    "H": JobState.PENDING,
    "W": JobState.PENDING,
    "T": JobState.PENDING,
    "R": JobState.RUNNING,
    "B": JobState.RUNNING,
    "E": JobState.RUNNING,  # its processes have ended, the server still cleans up, and its exit status is not known yet
    "S": JobState.SUSPENDED,
    "U": JobState.SUSPENDED,
}
_OVER = "FXC"
_WORDS = {"M": "moved to another server", "E": "exiting", "H": "held", "W": "waiting"}
_TERMINATED = 91  # the substate of deleted jobs in PBS Pro

_LINE = re.compile(r'(\s*"[^"]*":\s*)(.*?)(,?)\s*')
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_CTIME = re.compile(r"\w{3} (\w{3}) +(\d+) (\d+):(\d+):(\d+) (\d{4})")


def pro_records(text: str) -> dict[str, JobRecord]:
    """Return the jobs in what ``qstat -f -F json`` wrote, by id; a document without jobs has none.

    Raises
    ------
    StatusUnavailable
        If it cannot be understood.
    """
    return {batch_id: _record(batch_id, job, pro=True) for batch_id, job in _pro_jobs(text).items()}


def pro_records_of_lines(text: str) -> dict[str, JobRecord]:
    """Return the jobs in what ``qstat -f -F dsv`` wrote, a line each, by id."""
    found = {}
    for block in re.split(r"^Job Id: ", text, flags=re.MULTILINE)[1:]:
        batch_id, *pairs = re.split(r"(?<!\\)\|", block.strip("\n"))
        job = {name: value for name, _, value in (each.partition("=") for each in pairs)}
        found[batch_id] = _record(batch_id, job, pro=True)
    return found


def torque_records(text: str) -> dict[str, JobRecord]:
    """Return the jobs in what Torque's ``qstat -x`` wrote, by id; an empty text has none.

    Raises
    ------
    StatusUnavailable
        If it cannot be understood.
    """
    return {batch_id: _record(batch_id, job, pro=False) for batch_id, job in _torque_jobs(text)}


def _pro_jobs(text: str) -> dict[str, Attributes]:
    document = _decoded(text)
    jobs = document.get("Jobs", {}) if isinstance(document, dict) else None
    if not isinstance(jobs, dict) or not all(isinstance(job, dict) for job in jobs.values()):
        raise StatusUnavailable(f"qstat's answer is not a list of jobs: {_short(text)}")
    return jobs


def _decoded(text: str) -> object:
    for attempt in (str, _repaired):
        try:
            document: object = msgspec.json.decode(attempt(text).encode("utf-8", "replace"))
        except (msgspec.DecodeError, RecursionError):
            continue
        return document
    raise StatusUnavailable(f"qstat's answer is not JSON: {_short(text)}")


def _repaired(text: str) -> str:
    """Return the text with the JSON errors of PBS repaired: bare words, and quotation marks within values."""
    lines = []
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None or match[2] in ("{", "[", "", "{}", "[]") or match[2].startswith("["):
            lines.append(line)
            continue
        value = match[2]
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1].replace('\\"', '"')
        elif _is_json(value):
            lines.append(line)
            continue
        lines.append(match[1] + msgspec.json.encode(value.encode("utf-8", "replace").decode()).decode() + match[3])
    return "\n".join(lines)


def _is_json(value: str) -> bool:
    try:
        msgspec.json.decode(value.encode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _torque_jobs(text: str) -> Iterator[tuple[str, Attributes]]:
    # One document for all jobs, or one document for each.
    rest = re.sub(r"<\?xml[^>]*\?>", "", text).strip()
    try:
        root = ElementTree.fromstring(f"<All>{_characters(rest)}</All>")
    except ElementTree.ParseError as error:
        raise StatusUnavailable(f"qstat's answer is not XML: {_short(text)}") from error
    for job in root.iter("Job"):
        attributes: dict[str, object] = {each.tag: (each.text or "").strip() for each in job}
        batch_id = attributes.get("Job_Id")
        if isinstance(batch_id, str) and batch_id:
            yield batch_id, attributes


def _characters(text: str) -> str:
    """Return the text without characters that XML cannot hold."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)


def _record(batch_id: str, job: Attributes, *, pro: bool) -> JobRecord:
    native = _text(job, "job_state")
    status = _integer(job, "Exit_status", "exit_status")
    comment = _text(job, "comment")
    if native and native in _OVER:
        state, exit_code, signal, reason = ending(
            status, comment, deleted=_integer(job, "substate") == _TERMINATED, pro=pro
        )
    else:
        state, exit_code, signal = _STATES.get(native, JobState.UNKNOWN), None, None
        reason = "; ".join(filter(None, (_WORDS.get(native, ""), comment)))
    return JobRecord(
        batch_id=batch_id,
        state=state,
        native_state=native,
        reason=reason,
        exit_code=exit_code,
        signal=signal,
        nodes=_nodes(_text(job, "exec_host")),
        created_at=_time(job, "qtime", "ctime"),
        started_at=_time(job, "stime", "start_time"),
        ended_at=_time(job, "comp_time", "history_timestamp", "obittime"),
        name=_text(job, "Job_Name"),
    )


def _nodes(exec_host: str) -> tuple[str, ...]:
    # "n1/0*12+n2/0*12" of OpenPBS, "n4/0-11+n3/0-11" of Torque
    return tuple(dict.fromkeys(each.partition("/")[0] for each in exec_host.split("+") if each.partition("/")[0]))


def _text(job: Attributes, name: str) -> str:
    value = job.get(name, "")
    return value if isinstance(value, str) else str(value) if isinstance(value, int | float) else ""


def _integer(job: Attributes, *names: str) -> int | None:
    for name in names:
        value = job.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**12:
            return value
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,12}", value):
            return int(value)
    return None


def _time(job: Attributes, *names: str) -> float | None:
    """Return the first time given: in seconds, or as ctime(3) writes it, assumed to be in this host's time zone."""
    for name in names:
        seconds = _integer(job, name)
        if seconds is not None:
            return float(seconds)
        match = _CTIME.fullmatch(_text(job, name))
        if match and match[1] in _MONTHS:
            day, hour, minute, second, year = (int(each) for each in match.groups()[1:])
            try:
                return datetime(year, _MONTHS.index(match[1]) + 1, day, hour, minute, second).timestamp()
            except (ValueError, OverflowError):
                return None
    return None


def _short(text: str) -> str:
    return repr(text[:200])
