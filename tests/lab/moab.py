"""What Moab answers, in the shapes that its documentation and its users' programs show."""

from tests.lab.replay import Answer

_CLUSTER = '<Object>queue</Object>\n <cluster LocalActiveNodes="68" LocalUpNodes="922" time="1553503935"/>'
SHOWQ = Answer(
    f"""<Data>
 {_CLUSTER}
 <queue count="2" option="active">
  <job AWDuration="140875" Account="acc" DRMJID="101.server" EEDuration="44150" GJID="101" JobID="101" JobName="agent" \
MasterHost="n4545" PAL="torque" ReqAWDuration="172800" ReqProcs="20" RsvStartTime="1553362801" StartTime="1553362801" \
State="Running" SubmissionTime="1553318572" SuspendDuration="0" User="ada"/>
  <job DRMJID="106.server" GJID="Moab.6" JobID="106" JobName="moved" StartTime="1553362801" State="Suspended" \
SubmissionTime="1553318573" User="ada"/>
 </queue>
 <queue count="1" option="eligible">
  <job GJID="102" JobID="102" JobName="agent" ReqAWDuration="172800" StartTime="0" State="Idle" \
SubmissionTime="1553431244" User="ada"/>
 </queue>
 <queue count="1" option="blocked">
  <job BlockReason="IdlePolicy" Description="job 103 violates idle HARD MAXIPROC limit" GJID="103" JobID="103" \
JobName="waits" StartTime="0" State="BatchHold" SubmissionTime="1553431245" User="ada"/>
 </queue>
</Data>
"""
)


def over(number: int, code: str, state: str = "Completed", used: int = 100, wanted: int = 172800) -> str:
    """Return a job that is over."""
    return (
        f'  <job AWDuration="{used}" Class="compute" CompletionCode="{code}" CompletionTime="1553436477" '
        f'DRMJID="{number}.server" GJID="{number}" JobID="{number}" JobName="agent" MasterHost="n4250" '
        f'ReqAWDuration="{wanted}" StartTime="1553267313" State="{state}" SubmissionTime="1553265273" User="ada"/>\n'
    )


def completed(*jobs: str) -> Answer:
    """Return what ``showq -c --xml`` says."""
    inner = f' <queue count="{len(jobs)}" option="completed" purgetime="86400">\n{"".join(jobs)} </queue>'
    return Answer(f"<Data>\n {_CLUSTER}\n{inner}\n</Data>\n")


NOTHING = Answer(f'<Data>\n {_CLUSTER}\n <queue count="0" option="active"/>\n</Data>\n')
CHECKJOB = Answer(
    """<Data>
 <job AWDuration="30" Class="batch" CompletionCode="3" CompletionTime="1553436477" DRMJID="90.server" EState="Running" \
GJID="90" JobID="90" JobName="old" StartTime="1553267313" State="Completed" SubmissionTime="1553265273" User="ada">
  <req AllocNodeList="n1:12,n2:12" NCReqMin="2" RMName="torque" ReqProcessors="24"/>
 </job>
</Data>
"""
)
UNKNOWN = Answer("", "ERROR:  invalid job specified (4761849)\n\n", 1)
TIMED_OUT = Answer("", "ERROR:  client timed out after 30 seconds (hostname:port=mg1:42559)\n", 1)
REFUSED = Answer("", "ERROR:    communication error mg1:42559 (Connection refused)\n", 1)
TAKEN = Answer("\n4761849\n")
CANCELED = Answer("\njob '101' cancelled\n\n")
USER = Answer("ada\n")
