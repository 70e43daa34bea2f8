"""What a site may say, and what no scheduler could be told."""

from pathlib import Path

import click
import pytest
from msgspec.structs import replace

from pilotmtc.cli.options.pilots import pilot_options, scheduler_options
from pilotmtc.errors import ConfigError
from pilotmtc.model import PilotDescription
from pilotmtc.session import PilotOptions, describe
from pilotmtc.sites import Site, make_site, save_site
from pilotmtc.tui.actions.pilots import options_of


@pytest.mark.parametrize(
    ("key", "value"), [("constraint", 'lab & "x y"'), ("reservation", "no such"), ("queue", "-"), ("account", "a\nb")]
)
def test_words_that_the_scheduler_would_never_be_told_are_refused(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{key}: "):
        make_site("lab", {"host": "h", key: value})


def test_lines_are_left_to_schedulers_that_take_them() -> None:
    assert make_site("lab", {"scheduler": "condor", "constraint": "Memory > 10 && x"}).constraint
    assert make_site("lab", {"login": "-"}).login == "-"


def test_pilots_of_a_machine_without_a_scheduler_are_on_it() -> None:
    assert [make_site("lab", {"scheduler": word}).login for word in ("local", "local://localhost/", "slurm")] == [
        "-", "-", "",
    ]  # fmt: skip
    assert make_site("lab", {"scheduler": "local", "login": "h"}).login == "h"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PilotDescription:
    """What pilots are at a site that says all that it can."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    save_site(
        Site(
            name="lab", scheduler="slurm", walltime="2h", nodes=4, cores=8, gpus=2, memory="4G", queue="q", account="a",
            qos="o", constraint="c", reservation="r", exclusive=True, idle="5m", login="l",
        )
    )  # fmt: skip
    return describe(site="lab")


def test_what_is_not_said_is_as_the_site_says(lab: PilotDescription) -> None:
    nothing: PilotOptions = dict.fromkeys(("gpus", "exclusive", "queue", "walltime"))  # type: ignore[assignment]
    assert describe(**({"site": "lab"} | nothing)) == lab
    assert (lab.nodes, lab.gpus, lab.exclusive, lab.walltime_s, lab.queue) == (4, 2, True, 7200.0, "q")


@pytest.mark.parametrize(
    ("option", "field"),
    [
        ({"gpus": 0}, "gpus"), ({"cores": 0}, "cores"), ({"memory": 0}, "memory_bytes"),
        ({"walltime": 0}, "walltime_s"), ({"idle": "0"}, "idle_s"), ({"exclusive": False}, "exclusive"),
        ({"queue": ""}, "queue"),
        ({"account": ""}, "account"), ({"qos": ""}, "qos"), ({"constraint": ""}, "constraint"),
        ({"reservation": ""}, "reservation"), ({"login": ""}, "login"),
    ],
)  # fmt: skip
def test_nothing_takes_back_what_the_site_says(lab: PilotDescription, option: PilotOptions, field: str) -> None:
    found = describe(**({"site": "lab"} | option))
    assert getattr(lab, field)
    assert not getattr(found, field)
    assert replace(found, **{field: getattr(lab, field)}) == lab


def test_emptied_field_of_a_form_takes_back_what_the_site_says() -> None:
    site = {"site": "lab", "nodes": "4", "cores": "", "walltime": "2h", "queue": "q"}
    assert options_of({**site, "walltime": "", "queue": "", "nodes": "2"}, site) == {
        "site": "lab", "nodes": 2, "walltime": 0, "queue": "",
    }  # fmt: skip


@pytest.mark.parametrize(("word", "wanted"), [("--exclusive", True), ("--no-exclusive", False), (None, None)])
def test_command_line_says_nothing_that_was_not_said(word: str | None, wanted: bool | None) -> None:
    @scheduler_options
    @click.command()
    def ask(**options: object) -> None:
        asked.update(pilot_options(options))

    asked: PilotOptions = {}
    ask.main([word] if word else [], standalone_mode=False)
    assert asked == ({} if wanted is None else {"exclusive": wanted})
