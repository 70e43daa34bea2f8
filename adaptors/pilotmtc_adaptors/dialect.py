"""What dialects of other packages need; docs/adaptors.md says how. These names are stable."""

from pilotmtc.scheduler_words import line, word
from pilotmtc_adaptors._dialect import Call, CallResult, Conversation, Dialect, JobRecord, JobRequest, JobState, Status
from pilotmtc_adaptors._script import SCRIPT_FIELDS, job_script, quote

__all__ = [
    "SCRIPT_FIELDS", "Call", "CallResult", "Conversation", "Dialect", "JobRecord", "JobRequest", "JobState", "Status",
    "job_script", "line", "quote", "word",
]  # fmt: skip
