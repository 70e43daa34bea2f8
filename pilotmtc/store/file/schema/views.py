"""SQL views for other programs, which stay as they are: states and causes are in words.

``docs/store.md`` documents the columns. They are made from the enums, so the words cannot drift from the numbers.
"""

from enum import IntEnum

from pilotmtc.states import Cause, PilotState, TaskState
from pilotmtc.store.attempt_id import ATTEMPT_BITS, LAST_ATTEMPT
from pilotmtc.store.file.sql import in_states


def _words(column: str, states: type[IntEnum]) -> str:
    cases = " ".join(f"WHEN {state.value} THEN '{state.name}'" for state in states)
    return f"CASE {column} {cases} END"


def _time(column: str) -> str:
    return f"strftime('%Y-%m-%dT%H:%M:%fZ', {column}, 'unixepoch')"


_PARAMS = """(SELECT json_group_object(field.value, param.value)
     FROM json_each(template.body, '$.fields') AS field
     JOIN json_each(task.params) AS param ON param.key = field.key)"""
_RECORDED = """
    attempt.exit_code, attempt.signal, attempt.node, attempt.slot,
    {started_at} AS started_at, attempt.elapsed_s, attempt.cpu_s, attempt.memory_bytes,
    attempt.stdout_bytes, attempt.stderr_bytes, attempt.stdout_path, attempt.stderr_path, attempt.message,
    {recorded_at} AS recorded_at,
    CAST(output.stdout AS TEXT) AS stdout, CAST(output.stderr AS TEXT) AS stderr, returned.text AS value,
    attempt.version_id AS version, json_extract(program.body, '$.revision') AS revision,
    coalesce(json_extract(program.body, '$.dirty'), 0) AS dirty, memo.source_id >> {bits} AS known_from""".format(
    started_at=_time("nullif(attempt.started_at, 0)"), recorded_at=_time("attempt.recorded_at"), bits=ATTEMPT_BITS
)
_BESIDE = """LEFT JOIN output ON output.id = attempt.id LEFT JOIN returned ON returned.id = attempt.id
    LEFT JOIN memo ON memo.id = attempt.id LEFT JOIN version ON version.id = attempt.version_id
    LEFT JOIN program ON program.id = version.program_id"""

VIEWS = {
    "tasks": f"""SELECT
    task.id, task.campaign_id, task.name, {_words("task.state", TaskState)} AS state,
    task.attempt, task.priority, json_extract(template.body, '$.command') AS command,
    {_PARAMS} AS params,
    coalesce(json_extract(resources.body, '$.cores'), 1) AS cores,
    coalesce(json_extract(resources.body, '$.gpus'), 0) AS gpus,
    coalesce(json_extract(resources.body, '$.memory_bytes'), 0) AS memory_bytes,
    json_extract(resources.body, '$.named') AS named,
    coalesce(json_extract(resources.body, '$.time_limit_s'), 0) AS time_limit_s,
    coalesce(json_extract(resources.body, '$.expected_s'), 0) AS expected_s,
    coalesce(json_extract(resources.body, '$.ranks'), 1) AS ranks,
    coalesce(json_extract(resources.body, '$.ranks_per_node'), 0) AS ranks_per_node,
    coalesce(json_extract(template.body, '$.max_retries'), 0) AS max_retries,
    task.failures, task.crashes, task.unmet, task.pilot_id, task.cancel,
    {_time("nullif(task.not_before, 1e18)")} AS not_before, {_time("task.started_at")} AS started_at, task.tags,
    task.not_before IS 1e18 AS on_hold
FROM task JOIN template ON template.id = task.template_id JOIN resources ON resources.id = task.resources_id""",
    "attempts": f"""SELECT
    attempt.id >> {ATTEMPT_BITS} AS task_id, attempt.id & {LAST_ATTEMPT} AS attempt,
    {_words("attempt.cause", Cause)} AS cause, attempt.pilot_id, {_RECORDED}
FROM attempt {_BESIDE}""",
    "results": f"""SELECT
    task.id AS task_id, task.campaign_id, task.name, {_PARAMS} AS params,
    {_words("task.state", TaskState)} AS state, attempt.id & {LAST_ATTEMPT} AS attempt,
    {_words("attempt.cause", Cause)} AS cause, attempt.pilot_id, {_RECORDED}
FROM task JOIN template ON template.id = task.template_id
    JOIN attempt ON attempt.id = (SELECT max(id) FROM attempt
        WHERE id BETWEEN task.id << {ATTEMPT_BITS} AND (task.id << {ATTEMPT_BITS}) + {LAST_ATTEMPT})
    {_BESIDE}
WHERE task.state {in_states((TaskState.DONE, TaskState.FAILED, TaskState.CANCELED))}""",
    "campaigns": f"""SELECT
    campaign.id, campaign.name, {_time("campaign.created_at")} AS created_at, campaign.received AS tasks, campaign.sealed, campaign.own_pilots,
    campaign.on_hold != 0 AS on_hold, campaign.known, nullif(campaign.max_running, 0) AS max_running,
    nullif(campaign.start_rate, 0) AS start_rate,
    (SELECT json_group_array(needs_id) FROM campaign_after WHERE campaign_id = campaign.id AND NOT met) AS waits_for,
    {", ".join(f"coalesce((SELECT n FROM tally WHERE campaign_id = campaign.id AND state = {state.value}), 0) AS {state.name.lower()}" for state in TaskState)}
FROM campaign WHERE campaign.deleted_at IS NULL""",  # noqa: E501
    "versions": """SELECT
    version.id AS version, json_extract(template.body, '$.command') AS command,
    json_extract(template.body, '$.env') AS env, json_extract(program.body, '$.directory') AS directory,
    json_extract(program.body, '$.revision') AS revision, coalesce(json_extract(program.body, '$.dirty'), 0) AS dirty,
    json_extract(program.body, '$.host') AS host, json_extract(program.body, '$.user') AS user,
    json_extract(program.body, '$.pilotmtc') AS pilotmtc, json_extract(program.body, '$.files') AS files
FROM version JOIN template ON template.id = version.template_id LEFT JOIN program ON program.id = version.program_id""",
    "pilots": f"""SELECT
    id, {_words("state", PilotState)} AS state, json_extract(description, '$.site') AS site, campaign_id, host, pid,
    nodes, cores, busy, {_time("created_at")} AS created_at, {_time("started_at")} AS started_at,
    {_time("ended_at")} AS ended_at, {_time("seen_at")} AS seen_at, directory, reason, batch, native_state,
    scheduler, {_time("submitted_at")} AS submitted_at, {_time("asked_at")} AS asked_at, trouble,
    on_hold
FROM pilot""",
}
