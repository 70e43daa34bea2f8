"""The life of a study in short; ``python -m tests.lab.life`` plays more of it, on a cluster, too."""

from tests.lab.life import Study
from tests.user import User


def test_life_of_a_study(user: User) -> None:
    def cli(*words: str, code: int = 0) -> str:
        return user.cli(*words, code=code).out

    study = Study(user.here, cli)
    study.play(4)
    cli("pilot", "cancel", "--all")
