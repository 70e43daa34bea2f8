"""What dialects of other packages are made of; docs/adaptors.md says how. These names stay as they are."""

from pilotmtc.plain import line, word
from pilotmtc_adaptors._dialect import Call, Dialect, JobRecord, JobRequest, JobState, Said, Status, Talk
from pilotmtc_adaptors._script import SCRIPT_FIELDS, job_script, quote

__all__ = [
    "SCRIPT_FIELDS", "Call", "Dialect", "JobRecord", "JobRequest", "JobState", "Said", "Status", "Talk", "job_script",
    "line", "quote", "word",
]  # fmt: skip
