"""A study whose program changes: versions of attempts, edits, what runs again, and what is known."""

import subprocess

import pytest

from tests.user import User


@pytest.fixture
def study(user: User, monkeypatch: pytest.MonkeyPatch) -> User:
    """A campaign of three points of ``sim.py``, of which the first version has run in a git repository."""
    monkeypatch.chdir(user.here)
    for words in (["init", "-q"], ["config", "user.email", "a@b"], ["config", "user.name", "a"]):
        subprocess.run(["git", *words], cwd=user.here, check=True)
    write(user, "v1")
    subprocess.run(["git", "add", "sim.py"], cwd=user.here, check=True)
    subprocess.run(["git", "commit", "-qm", "one"], cwd=user.here, check=True)
    user.cli("run", "-q", "--name", "scan", "--grid", "x=1..3", "--", "sh", "sim.py", "{x}")
    return user


def write(user: User, text: str) -> None:
    (user.here / "sim.py").write_text(f"echo {text} $1\n")


def results(user: User, campaign: str) -> list[tuple[str, int, str]]:
    found = user.cli("results", campaign, "--json").records
    return [(one["stdout"].strip(), one["version"], one["revision"][40:]) for one in found]


def test_what_ran_another_program_runs_again_and_results_say_which(study: User) -> None:
    assert results(study, "scan") == [(f"v1 {x}", 1, "") for x in (1, 2, 3)]
    assert study.cli("rerun", "-c", "scan", "--changed").out == "0 tasks will run again\n"
    write(study, "v2")
    study.cli("add", "scan", ":::", "4")
    study.cli("run", "-q", "--resume", "scan")
    assert results(study, "scan") == [*((f"v1 {x}", 1, "") for x in (1, 2, 3)), ("v2 4", 2, "+")]
    assert study.cli("rerun", "-c", "scan", "--changed", "--dry-run").out == (
        "3 tasks would run again; nothing is stored\n"
        "  1 sh sim.py 1  (x=1)\n  2 sh sim.py 2  (x=2)\n  3 sh sim.py 3  (x=3)\n"
    )
    assert study.cli("rerun", "-c", "scan", "--changed", "--json").record == {"changed": 3, "unfit": 0}
    study.cli("run", "-q", "--resume", "scan")
    assert [stdout for stdout, _, _ in results(study, "scan")] == ["v2 1", "v2 2", "v2 3", "v2 4"]
    detail = study.cli("task", "1", "--json").record
    assert [attempt["version"] for attempt in detail["attempts"]] == [1, 2]
    assert [one["dirty"] for one in detail["versions"]] == [False, True]
    assert len({one["files"][str(study.here / "sim.py")] for one in detail["versions"]}) == 2
    assert "VERSION" in study.cli("task", "1").out


def test_file_that_is_gone_or_not_there_is_an_error(study: User) -> None:
    (study.here / "sim.py").unlink()
    said = study.cli("rerun", "-c", "scan", "--changed", code=2).err
    assert "sim.py, whose content is watched, cannot be read on" in said
    assert study.cli("status", "scan", "--json").record["campaigns"][0]["counts"]["DONE"] == 3
    said = study.cli("submit", "--watch", "nix", "true", code=2).err
    assert "nix, whose content is watched, cannot be read" in said
    assert len(study.cli("status", "--json").record["campaigns"]) == 1


def test_commands_and_limits_of_what_has_not_run_are_edited(study: User) -> None:
    study.cli("submit", "--name", "next", "--grid", "x=1..2", "--", "sh", "sim.py", "{x}")
    words = ["edit", "-c", "next", "--command", "sh sim.py {x}-$HOW", "--env", "HOW=fast", "--retries", "2"]
    assert study.cli(*words).out == "2 tasks changed\n"
    assert "{y} in the command is no parameter" in study.cli("edit", "-c", "next", "--command", "{y}", code=2).err
    assert "does not mention it" in study.cli("edit", "-c", "next", "--command", "echo", code=2).err
    study.cli("run", "-q", "--resume", "next")
    assert [stdout for stdout, _, _ in results(study, "next")] == ["v1 1-fast", "v1 2-fast"]
    assert study.cli("edit", "-c", "next", "--retries", "3", "--json").record == {"changed": 0, "unfit": 2}


def test_known_points_are_not_run_again(study: User) -> None:
    done = study.cli("run", "--memo", "--name", "finer", "--grid", "x=2..4", "--", "sh", "sim.py", "{x}")
    assert sorted(done.out.splitlines()) == ["v1 2", "v1 3", "v1 4"]
    assert "2 of 3 are known" in done.err
    assert study.cli("status", "finer", "--json").record["campaigns"][0]["known"] == 2
    assert [one["known_from"] for one in study.cli("results", "finer", "--json").records] == [2, 3, None]
    assert "FROM" in study.cli("results", "finer").out
    assert "1 of 1 are known" in study.cli("add", "finer", "--memo", ":::", "1").err
