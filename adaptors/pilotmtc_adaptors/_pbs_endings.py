"""The meaning of exit statuses in OpenPBS and Torque; Moab passes on those of Torque."""

from pilotmtc_adaptors._dialect import JobState

_REASONS = {
    -1: "could not be started, before its files were staged",
    -2: "could not be started, after its files were staged",
    -3: "could not be started after several attempts",
    -4: "aborted as its execution host was restarted",
    -5: "aborted as its execution host was restarted",
    -6: "aborted as its execution host was restarted",
    -7: "could not be restarted from its checkpoint",
}
_PRO_REASONS = _REASONS | {
    -10: "user or group is not valid on the execution host",
    -11: "was rerun",
    -12: "was checkpointed and killed",
    -13: "password was refused",
    -14: "lost the connection between its execution hosts",
    -15: "was requeued at its restart from a checkpoint",
    -16: "a hook refused it",
    -17: "a hook refused it",
    -18: "a hook asked to rerun it",
    -19: "a hook asked to delete it",
    -20: "its execution host could not be reached",
    -24: "killed: it used more CPUs than it had asked for",
    -25: "killed: it used more CPUs than it had asked for",
    -26: "killed: it used more virtual memory than it had asked for",
    -27: "killed: it used more memory than it had asked for",
    -28: "killed: it used more CPU time than it had asked for",
    -29: "killed: it reached its walltime",
}
_TORQUE_REASONS = _REASONS | {
    -8: "its command could not be executed",
    -9: "its output files could not be created",
    -10: "killed: it used more memory than it had asked for",
    -11: "killed: it reached its walltime",
    -12: "killed: it used more CPU time than it had asked for",
    -13: "its control group could not be created",
    -14: "its prologue failed",
}
_SIGTERM = 15
_EXECVE_FAILED = 254


def ending(
    status: int | None, comment: str, *, deleted: bool, pro: bool
) -> tuple[JobState, int | None, int | None, str]:
    """Return state, exit code, signal and reason of a job that has ended."""
    gave_up = "too many failed attempts" in comment
    if (deleted or status is None) and not gave_up:
        # It was deleted; a job that was deleted while it waited has no exit status.
        return JobState.CANCELED, None, _signal(status), comment or "deleted"
    if status is None:
        return JobState.FAILED, None, None, comment
    if status < 0:
        reasons = _PRO_REASONS if pro else _TORQUE_REASONS
        return JobState.FAILED, None, None, f"{reasons.get(status, 'ended by PBS')} ({status})"
    if status == 256 + _SIGTERM and not pro:
        return JobState.CANCELED, None, _SIGTERM, "deleted"  # all that Torque says of a deleted job
    signal = _signal(status)
    if signal is not None:
        return JobState.FAILED, None, signal, comment
    if status == _EXECVE_FAILED:
        comment = f"its program or shell could not be executed; {comment}".rstrip("; ")
    return (JobState.FAILED if status else JobState.DONE), status, None, comment if status else ""


def _signal(status: int | None) -> int | None:
    """Return the signal in an exit status: shells add 128 to it, PBS adds 256."""
    if status is None:
        return None
    signal = status - (256 if status > 255 else 128)
    return signal if 0 < signal <= 64 else None
