"""What a submitter's shell knows of the scheduler's commands, and whoever asks it later must."""

import msgspec
import pytest

from pilotmtc.errors import UsageError
from pilotmtc.model import PilotDescription
from pilotmtc.pilots.batch import adopt, refuse_unmapped, scheduler_environ


def test_submitters_variables_that_matter_to_commands_are_kept_and_no_others() -> None:
    env = {"PATH": "/opt/pbs/bin:/bin", "SLURM_CONF": "/s.conf", "SECRET": "x", "LD_LIBRARY_PATH": ""}
    assert scheduler_environ(env) == {"PATH": "/opt/pbs/bin:/bin", "SLURM_CONF": "/s.conf"}


def test_own_variables_go_before_those_of_submitters() -> None:
    own = {"PATH": "/usr/bin:/bin", "SLURM_CONF": "/own"}
    adopt(own, [{"PATH": "/bin:/opt/pbs/bin:.:bin", "SLURM_CONF": "/theirs"}, {"PBS_DEFAULT": "head"}, {}])
    assert own == {"PATH": "/usr/bin:/bin:/opt/pbs/bin", "SLURM_CONF": "/own", "PBS_DEFAULT": "head"}


@pytest.mark.parametrize(
    ("scheduler", "options", "named"),
    [
        ("condor://localhost/", {"queue": "long", "qos": "high"}, r"condor.*queue \('long'\), qos \('high'\)"),
        ("condor-parallel://localhost/", {"reservation": "r1"}, "reservation"),
        ("local://localhost/", {"gpus": 2}, r"gpus \(2\)"),
        ("local://localhost/", {"exclusive": True}, "exclusive"),
    ],
)
def test_option_that_a_scheduler_has_no_word_for_is_refused_before_there_is_a_pilot(
    scheduler: str, options: dict[str, object], named: str
) -> None:
    with pytest.raises(UsageError, match=named):
        refuse_unmapped(msgspec.convert({"scheduler": scheduler, **options}, PilotDescription))


@pytest.mark.parametrize(
    ("scheduler", "options"),
    [
        ("slurm://localhost/", {"queue": "q", "qos": "high", "reservation": "r", "constraint": "c", "exclusive": True}),
        ("another://localhost/", {"qos": "high"}),  # whose package may be on the store's host
        ("condor://localhost/", {"account": "a", "gpus": 1, "constraint": "c"}),
    ],
)
def test_option_that_a_scheduler_may_have_is_left_to_it(scheduler: str, options: dict[str, object]) -> None:
    refuse_unmapped(msgspec.convert({"scheduler": scheduler, **options}, PilotDescription))
