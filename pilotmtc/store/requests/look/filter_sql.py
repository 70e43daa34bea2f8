"""Translates filters into SQL."""

import math
import re
from collections.abc import Iterable

from pilotmtc.errors import UsageError
from pilotmtc.model import CampaignId
from pilotmtc.protocol.records import Comparison, Filter
from pilotmtc.states import TASK_HELD, TaskState
from pilotmtc.store.attempt_id import attempt_id_sql
from pilotmtc.store.file.sql import IN_LIST, id_list, in_states
from pilotmtc.store.file.task_status import HELD, ON_HOLD
from pilotmtc.store.file.transaction import Transaction
from pilotmtc.store.requests.campaigns import ids_of

# A subquery with the last recorded attempt of t.
LAST = f"""(SELECT max(id) FROM attempt
    WHERE id BETWEEN {attempt_id_sql("t.id", "0")} AND {attempt_id_sql("t.id", "t.attempt")})"""


def measured(column: str) -> str:
    """Return SQL for a column of the last recorded attempt of t; NULL if there is none."""
    return f"(SELECT {column} FROM attempt WHERE id = {LAST})"


# How long t has been running, or how long its last attempt ran; the parameter is the present time.
ELAPSED = f"CASE t.state WHEN {TaskState.RUNNING:d} THEN ? - t.started_at ELSE {measured('elapsed_s')} END"

_CAMPAIGN_RANGE = "SELECT first_id, last_id FROM campaign WHERE id = ? AND deleted_at IS NULL"
# The templates that have a field with a name, and its position.
_FIELD_PLACES = """SELECT p.id, f.key FROM template AS p, json_each(p.body, '$.fields') AS f WHERE f.value = ?"""
# Names of fields, from the newest templates first; names may repeat.
_FIELD_NAMES = """SELECT f.value FROM (SELECT id, body FROM template ORDER BY id DESC LIMIT 500) AS p,
    json_each(p.body, '$.fields') AS f ORDER BY p.id DESC, f.key"""
_LAST_ID = 1 << 62
_BAD = frozenset({TaskState.FAILED, TaskState.CANCELED, TaskState.SKIPPED})
_OPS = frozenset({"<", "<=", "=", "!=", ">=", ">"})
_COLUMNS = {"id": "+t.id", "priority": "t.priority", "attempt": "t.attempt"}
_HOLD = "hold"  # 1: on hold, 0: not
_LASTS = ("elapsed_s", "cpu_s", "memory_bytes", "signal")  # columns of the last attempt
_PARAM = "params."
# Only text that looks like a number: SQLite casts any other text to 0.
_NUMBER = "CASE WHEN {0} GLOB '*[0-9]*' AND {0} NOT GLOB '*[^-+.0-9eE]*' THEN CAST({0} AS REAL) END"


class Where:
    """A `Filter` as SQL over ``task AS t``: a `source` of rows, a `condition`, and its `values`.

    `few`: the source or a list of ids leads directly to few rows. `first` and `last`: the ids of all rows lie between.
    The condition does not say so: a query has one range of ids, within these. With two, SQLite may begin to read at the
    lower end of the wrong one, a million rows too early.
    """

    def __init__(self, tx: Transaction, wish: Filter) -> None:
        self.source = "task AS t"
        self.few = False
        self.first, self.last = 1, _LAST_ID
        self.values: list[object] = []
        self._terms: list[str] = []
        if wish.states is not None:
            self._states(frozenset(wish.states))
        if wish.ids is not None:
            self._add(f"t.id {IN_LIST}", id_list(wish.ids))
            self.few = True
        if wish.campaign is not None:
            self._campaigns(tx, ids_of(tx, wish.campaign if isinstance(wish.campaign, tuple) else (wish.campaign,)))
        if wish.pilot is not None:
            self._add("t.pilot_id = ?", wish.pilot)
        if wish.names is not None:
            self._names(wish.names)
        for tag in wish.tags or ():
            self._add("EXISTS (SELECT 1 FROM json_each(t.tags) WHERE value = ?)", tag)
        if wish.exit_codes is not None:
            self._last("exit_code", wish.exit_codes)
        if wish.causes is not None:
            self._last("cause", map(int, wish.causes))
        for one in wish.compare:
            self._compare(tx, one)

    @property
    def condition(self) -> str:
        """All conditions, each preceded by AND."""
        return " AND ".join(self._terms) or "1"

    def _add(self, term: str, *values: object) -> None:
        self._terms.append(term)
        self.values.extend(values)

    def _states(self, states: frozenset[TaskState]) -> None:
        # SQLite uses a partial index only if the query contains the index's condition literally.
        if states and states <= _BAD:
            self.source = "task AS t INDEXED BY task_ended"
            self._add(f"t.state >= {TaskState.FAILED:d}")
        elif states and states <= TASK_HELD:
            self.source = "task AS t INDEXED BY task_held"
            self.few = True
            self._add(f"t.{HELD}")
        self._add(f"t.state {in_states(states)}")

    def _campaigns(self, tx: Transaction, campaigns: tuple[CampaignId, ...]) -> None:
        ranges: list[tuple[int, int]] = []
        for campaign in campaigns:
            row = tx.execute(_CAMPAIGN_RANGE, (campaign,)).fetchone()
            if row is None:
                raise UsageError(f"there is no campaign {campaign} in this store")
            ranges.append(row)
        self.first = min((first for first, _ in ranges), default=1)
        self.last = max((last for _, last in ranges), default=0)
        if len(campaigns) == 1:
            self._add("t.campaign_id = ?", campaigns[0])
        else:
            self._add(f"t.campaign_id {IN_LIST}", id_list(campaigns))

    def _ids(self, op: str, value: float) -> None:
        if not math.isfinite(value):
            return
        if op in (">", ">=", "="):
            self.first = max(self.first, math.floor(min(value, _LAST_ID)))
        if op in ("<", "<=", "="):
            self.last = min(self.last, math.ceil(max(value, 0)))

    def _names(self, names: tuple[str, ...]) -> None:
        # In GLOB, [ is special as well.
        terms = ["t.name GLOB ?" if "*" in name or "?" in name else "t.name = ?" for name in names]
        values = [name.replace("[", "[[]") if "*" in name or "?" in name else name for name in names]
        self._add(f"({' OR '.join(terms) or '0'})", *values)

    def _last(self, column: str, values: Iterable[int]) -> None:
        self._add(f"{measured(column)} {IN_LIST}", id_list(values))

    def _compare(self, tx: Transaction, one: Comparison) -> None:
        if one.op not in _OPS:
            raise UsageError(f"{one.op!r} is no comparison: there are {', '.join(sorted(_OPS))}")
        if one.what.startswith(_PARAM):
            self._param(tx, one.what.removeprefix(_PARAM), one.op, one.value)
        elif isinstance(one.value, str):
            raise UsageError(f"{one.what} is compared with a number, not with {one.value!r}")
        elif one.what == _HOLD and one.op == "=":
            self._add(f"t.not_before IS{'' if one.value else ' NOT'} {ON_HOLD}")
        elif one.what in _COLUMNS:
            if one.what == "id":
                self._ids(one.op, one.value)
            self._add(f"{_COLUMNS[one.what]} {one.op} ?", one.value)
        elif one.what in _LASTS:
            if one.what == "elapsed_s":
                self._add(f"{ELAPSED} {one.op} ?", tx.clock.now(), one.value)
            else:
                self._add(f"{measured(one.what)} {one.op} ?", one.value)
        else:
            known = ", ".join([*_COLUMNS, *_LASTS, "params.NAME"])
            raise UsageError(f"tasks cannot be compared by {one.what!r}: there are {known}")

    def _param(self, tx: Transaction, name: str, op: str, value: float | str) -> None:
        """Add a comparison of a parameter, whose position may differ between templates."""
        places: dict[int, list[int]] = {}
        for template, at in tx.execute(_FIELD_PLACES, (name,)):
            places.setdefault(at, []).append(template)
        if not places:
            raise UsageError(_no_param(tx, name))
        terms: list[tuple[str, list[object]]] = []
        for at, templates in places.items():
            text = f"json_extract(t.params, '$[{at}]')"
            wish: float | str = value
            sign = op
            if isinstance(value, float | int):
                text = _NUMBER.format(text)
            elif op in ("=", "!=") and ("*" in value or "?" in value):
                sign = {"=": "GLOB", "!=": "NOT GLOB"}[op]
                wish = value.replace("[", "[[]")
            term = f"(t.template_id {IN_LIST} AND {text} {sign} ?)"
            terms.append((term, [id_list(templates), wish]))
        self._add(f"({' OR '.join(term for term, _ in terms)})", *(one for _, values in terms for one in values))


def field_names(tx: Transaction) -> list[str]:
    """Return the names of parameters, from the newest templates first."""
    return list(dict.fromkeys(name for (name,) in tx.execute(_FIELD_NAMES)))


def _no_param(tx: Transaction, name: str) -> str:
    known = field_names(tx)
    import difflib  # for faults only

    close = [one for one in known if len(name) > 2 and name in one] or difflib.get_close_matches(name, known, 1)
    there = f"the parameters are {', '.join(map(repr, known[:20]))}" if known else "there are none"
    hint = f"did you mean {close[0]!r}?" if close else there
    odd = next((one for one in close[:1] or known if re.search(r"[\s<>=!:]", one)), "")
    remedy = f""" (in a filter, names with blanks or signs go into quotation marks, as in '"{odd}">1')""" if odd else ""
    return f"no task has a parameter {name!r}: {hint}{remedy}"
