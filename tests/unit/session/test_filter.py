"""The language of filters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.errors import UsageError
from pilotmtc.model import CampaignId, PilotId, TaskId
from pilotmtc.protocol.records import Comparison, Filter
from pilotmtc.session.look.filter import KEYS, STATES, FilterError, Vocabulary, completions, parse_filter, pointed
from pilotmtc.session.look.select import as_filter
from pilotmtc.states import Cause, TaskState


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("", Filter()),
        ("   ", Filter()),
        ("state:failed", Filter(states=(TaskState.FAILED,))),
        ("state:Failed,canceled", Filter(states=(TaskState.FAILED, TaskState.CANCELED))),
        ("tag:a tag:b,c", Filter(tags=("a", "b", "c"))),
        ("exit:137,1", Filter(exit_codes=(137, 1))),
        ("signal:SIGKILL", Filter(compare=(Comparison("signal", "=", 9.0),))),
        ("cause:signal signal:int", Filter(causes=(Cause.SIGNAL,), compare=(Comparison("signal", "=", 2.0),))),
        ("hold:yes", Filter(compare=(Comparison("hold", "=", 1.0),))),
        ("hold:No", Filter(compare=(Comparison("hold", "=", 0.0),))),
        ("signal:40", Filter(compare=(Comparison("signal", "=", 40.0),))),
        ("cause:node-lost", Filter(causes=(Cause.NODE_LOST,))),
        ("name:fit-*", Filter(names=("fit-*",))),
        ("fit", Filter(names=("*fit*",))),
        ('"two words"', Filter(names=("*two words*",))),
        ("campaign:3 pilot=2", Filter(campaign=CampaignId(3), pilot=PilotId(2))),
        ("id:7,9-10", Filter(ids=(TaskId(7), TaskId(9), TaskId(10)))),
        ("id:10-20", Filter(compare=(Comparison("id", ">=", 10), Comparison("id", "<=", 20)))),
        ("mass>3", Filter(compare=(Comparison("params.mass", ">", 3.0),))),
        ("kind:a*", Filter(compare=(Comparison("params.kind", "=", "a*"),))),
        ('kind="a b"', Filter(compare=(Comparison("params.kind", "=", "a b"),))),
        ('"mass (GeV)">1', Filter(compare=(Comparison("params.mass (GeV)", ">", 1.0),))),
        ('params."a=b: c"="x y"', Filter(compare=(Comparison("params.a=b: c", "=", "x y"),))),
        ('"state":failed', Filter(states=(TaskState.FAILED,))),
        ("params.state!=x", Filter(compare=(Comparison("params.state", "!=", "x"),))),
        ("elapsed>1m cpu=1h", Filter(compare=(Comparison("elapsed_s", ">", 60.0), Comparison("cpu_s", "=", 3600.0)))),
        ("memory<=1G", Filter(compare=(Comparison("memory_bytes", "<=", 2.0**30),))),
        ("attempt>=2 priority<0", Filter(compare=(Comparison("attempt", ">=", 2), Comparison("priority", "<", 0)))),
    ],
)  # fmt: skip
def test_filters_mean_what_they_say(text: str, wish: Filter) -> None:
    assert parse_filter(text) == wish


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("tag:x state:faild", "state:faild", "did you mean failed"),
        ("stat:failed", "stat:failed", "did you mean state"),
        ("hold:maybe", "hold:maybe", "neither yes nor no"),
        ("exit:x", "exit:x", "exit:137"),
        ("signal:x", "signal:x", "signal:SEGV"),
        ("signal>3", "signal>3", "cannot be compared"),
        ("exit>3", "exit>3", "cannot be compared"),
        ("state:", "state:", "a value is missing"),
        ("state:failed state:done", "state:done", "given twice"),
        ("a b", "b", "one name"),
        ('name:"open', 'name:"open', "quotation mark"),
        ('x "open', '"open', "quotation mark"),
        ("id:20-10", "id:20-10", "the smaller id comes first"),
        ("id:1-200000,7", "id:1-200000,7", "too many"),
        ("elapsed>soon", "elapsed>soon", "not a duration"),
        ("memory>much", "memory>much", "512M"),
        ("id>1.5", "id>1.5", "whole number"),
        ("tag:a,,b", "tag:a,,b", "comma too many"),
        ("params.>3", "params.>3", "name is missing"),
    ],
)
def test_errors_point_at_what_is_wrong_and_say_what_is_allowed(text: str, where: str, words: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse_filter(text)
    assert words in str(caught.value)
    start = text.index(where)
    assert start <= caught.value.start < start + len(where)
    assert caught.value.end == start + len(where)
    assert "^" in pointed(text, caught.value)


@given(st.text(max_size=60))
def test_any_text_is_a_filter_or_a_clear_error_within_it(text: str) -> None:
    try:
        parse_filter(text)
        return
    except FilterError as error:
        start, end = error.start, error.end
    assert 0 <= start <= end <= len(text)


@given(st.lists(st.sampled_from([*KEYS, "mass", " ", ":", ">", "<=", "!=", ",", '"', "1", "failed", "oom", "-", "*"])))
def test_any_heap_of_known_pieces_is_a_filter_or_a_clear_error(pieces: list[str]) -> None:
    try:
        parse_filter("".join(pieces))
        return
    except FilterError as error:
        words = str(error)
    assert words


@given(st.text(alphabet='stae:fild,"> idmass13.', max_size=30))
def test_completions_go_on_from_the_text(text: str) -> None:
    assert all(one.startswith(text.rpartition(" ")[0]) and one != text for one in completions(text))


def test_completion_knows_keys_values_and_the_stores_own_words() -> None:
    words = Vocabulary(("mass", "state"), ("night", "noon"), (3, 31), (2,))
    assert completions("st", words) == [
        "state:",
    ]
    assert completions("state:", words) == [f"state:{state}" for state in STATES]
    assert completions("state:failed,ca", words) == ["state:failed,canceled"]
    assert completions("id:1 tag:n", words) == ["id:1 tag:night", "id:1 tag:noon"]
    assert completions("campaign:3", words) == ["campaign:31"]
    assert completions("ma", words) == ["mass:"]
    assert completions("params.s", words) == ["params.state:"]
    assert completions("el", words) == ["elapsed>"]


def test_completion_puts_names_with_blanks_into_quotation_marks() -> None:
    words = Vocabulary(("mass (GeV)", "a=b"))
    assert completions('"ma', words) == ['"mass (GeV)":']
    assert completions('tag:x "mass (G', words) == ['tag:x "mass (GeV)":']
    assert completions('"a=', words) == ['"a=b":']
    for one in ('"mass (GeV)":', '"a=b":'):
        assert parse_filter(f"{one}3").compare[0].value == 3.0


def test_a_filter_adds_to_other_conditions_and_never_contradicts_them() -> None:
    assert as_filter(campaign=3, filter="state:failed") == Filter(campaign=CampaignId(3), states=(TaskState.FAILED,))
    with pytest.raises(UsageError, match="asks for campaign"):
        as_filter(campaign=3, filter="campaign:4")
    with pytest.raises(UsageError, match=r"\^"):
        as_filter(filter="state:nonsense")
