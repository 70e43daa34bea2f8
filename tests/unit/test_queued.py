"""What a submitter's shell knows of the scheduler's commands, and whoever asks it later must."""

from pilotmtc.pilots.queued import adopt, scheduler_environ


def test_submitters_variables_that_matter_to_commands_are_kept_and_no_others() -> None:
    env = {"PATH": "/opt/pbs/bin:/bin", "SLURM_CONF": "/s.conf", "SECRET": "x", "LD_LIBRARY_PATH": ""}
    assert scheduler_environ(env) == {"PATH": "/opt/pbs/bin:/bin", "SLURM_CONF": "/s.conf"}


def test_own_variables_go_before_those_of_submitters() -> None:
    own = {"PATH": "/usr/bin:/bin", "SLURM_CONF": "/own"}
    adopt(own, [{"PATH": "/bin:/opt/pbs/bin:.:bin", "SLURM_CONF": "/theirs"}, {"PBS_DEFAULT": "head"}, {}])
    assert own == {"PATH": "/usr/bin:/bin:/opt/pbs/bin", "SLURM_CONF": "/own", "PBS_DEFAULT": "head"}
