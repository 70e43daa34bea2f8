"""Causes of retries, as users write them."""

import pytest

from pilotmtc.errors import UsageError
from pilotmtc.resources.retry import is_cause, parse_causes


@pytest.mark.parametrize(
    "written",
    ["exit:75,137 oom", "exit:75,137,oom", ["exit:75,137", "oom"], "EXIT:75 exit:137,OOM", ["exit:75", "exit:137,oom"]],
)
def test_causes_are_separated_by_blanks_or_commas_or_given_apart(written: object) -> None:
    assert parse_causes(written) == ("exit:75", "exit:137", "oom")


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("75", "'75' is not a cause"),
        ("oom,75", "'75' is not a cause"),
        ("exit:75,1x", "'1x' in 'exit:75,1x' is neither an exit code nor a cause"),
        ("exit:75,", "'' in 'exit:75,' is neither"),
        ("exit:75,256", "'256' in 'exit:75,256' is not an exit code of a failure"),
        ("signal:9", "only exit can have numbers behind it"),
        ("preempted", "is not the task's fault"),
        ("", "there is no cause"),
        (7, "7 is not a cause"),
    ],
)
def test_what_is_no_cause_is_named(written: object, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_causes(written)
    assert words in str(caught.value)


def test_words_are_known_that_can_only_be_causes() -> None:
    assert [word for word in ("oom", "exit:75,137", "./oom", "75", "exit:x") if is_cause(word)] == [
        "oom",
        "exit:75,137",
    ]
