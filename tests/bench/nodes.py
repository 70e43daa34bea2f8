"""Pilots of many nodes: how soon their slots are busy, how many tasks a second go through them, a whole study.

Real nodes are those of a real SLURM on this machine. Emulated ones (`tests.lab.nodes`) speak the real protocol to a
real agent over real sockets with CURVE; what is emulated is their process and the running of tasks.
"""

import contextlib
import heapq
import os
import random
import resource
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import zmq
from msgspec import Struct

from pilotmtc.agent.crews.contact import NAME, Contact
from pilotmtc.agent.crews.protocol import Accepted, Dismissed, WorkerReady, decode, encode
from pilotmtc.model import CampaignId, Pilot, PilotDescription
from pilotmtc.protocol.client.campaigns import GetCampaigns
from pilotmtc.protocol.client.maintenance import GetStore
from pilotmtc.protocol.client.pilots import CreatePilot, DrainPilot, GetPilots, GetSpans
from pilotmtc.protocol.records import Span
from pilotmtc.states import PilotState, TaskState
from pilotmtc.store.client.client import StoreClient
from tests.bench.baselines import c_loop
from tests.bench.measure import Measured, Series, in_turn, say
from tests.bench.place import Place, cpu_s, memory_mb, place, specs, submit
from tests.bench.remote import remote_store
from tests.lab.nodes import environment, write_srun
from tests.lab.slurm import Slurm
from tests.support import wait_until

_REAL = 4
_EMULATED = 1024
_LARGE = 8192
CORES = 12
PROCESSES = 8  # that emulate nodes
LONG_S = "20"  # a task that outlasts the filling of the slots
_RATE = 12_000
_PER_CORE = 10
_SHORTEST_S, _LONGEST_S = 27.0, 33.0
_EMULATION = (
    f"emulated: each node has a socket, CURVE handshake, hello and numbered line of its own, in {PROCESSES} processes "
    "together; no process is started a node, and a task is not run, but over when its seconds are"
)


class Filled(Struct, frozen=True):
    """Seconds from the allocation's start to the first task, and until all slots were busy."""

    first_s: float
    all_s: float


# -- four real nodes ------------------------------------------------------------------------------------------


def real(rounds: int, scale: float, slots: int) -> list[Measured]:
    """Four nodes of twelve slots in a real SLURM: from the job's start to the first task and to all slots busy."""
    found: dict[str, list[Filled]] = {"pilotmtc": [], "srun": []}
    with place() as here, Slurm(nodes=_REAL, cpus=CORES) as slurm:
        for number in range(rounds):
            bare, ours = _fill_real(here, slurm, bare_first=number % 2 == 0)
            found["srun"].append(bare)
            found["pilotmtc"].append(ours)
            say(f"round {number + 1} of {rounds}: {ours}, srun {bare}")
        rate = _rate_real(here, slurm, rounds, max(int(_RATE * scale), 500), slots)
    names = {"pilotmtc": "pilotmtc", "srun": f"srun of a no-op on {_REAL * CORES} slots, same job"}
    return [
        *_filled(f"{_REAL} real nodes x {CORES}", {names[key]: value for key, value in found.items()}),
        rate,
    ]


def _fill_real(here: Place, slurm: Slurm, *, bare_first: bool) -> tuple[Filled, Filled]:
    """Return in what time plain srun and a pilot fill all slots of one job's nodes."""
    slots = _REAL * CORES
    with _real_pilot(here, slurm, bare_first=bare_first) as (pilot, directory):
        campaign = here.submit(specs(["/bin/sleep"], [LONG_S] * slots))
        here.wait(campaign, 120.0)
        ours = fill(here.client, pilot, float((directory / "begun").read_text()), slots)
        here.client.call(DrainPilot(pilot.id))
        wait_until((directory / "job.over").exists, 60.0)
        began = float((directory / "bare.begun").read_text())
        at = [float(line) for line in (directory / "bare").read_text().split()]
    if len(at) != slots:
        raise RuntimeError(f"srun has started {len(at)} of {slots}")
    return Filled(min(at) - began, max(at) - began), ours


@contextlib.contextmanager
def _real_pilot(here: Place, slurm: Slurm, *, bare_first: bool | None = None) -> Iterator[tuple[Pilot, Path]]:
    """Give a pilot in a job of all nodes, and its directory; before or behind it, srun fills the slots if wished."""
    pilot = _pilot(here.client, here.directory, _REAL, 0)
    directory = Path(pilot.directory)
    bare = (
        f"date +%s.%N > {directory}/bare.begun; srun --ntasks-per-node={CORES} --ntasks={_REAL * CORES} --mpi=none "
        f"--overlap --cpu-bind=none date +%s.%N > {directory}/bare"
    )
    ours = (
        f"date +%s.%N > {directory}/begun; {sys.executable} -m pilotmtc --store {here.path} agent --pilot {pilot.id} "
        f"--directory {directory} --allocation"
    )
    order = {True: (bare, ours), False: (ours, bare), None: (ours,)}[bare_first]
    script = directory / "job.sh"
    script.write_text("\n".join(["#!/bin/sh", *order, f"touch {directory}/job.over", ""]))
    command = [
        "sbatch", "--parsable", "--exclusive", f"--nodes={_REAL}", f"--output={directory}/agent.log", str(script),
    ]  # fmt: skip
    env = os.environ | {"SLURM_CONF": str(slurm.conf), "PILOTMTC_NETWORK": "127.0.0.1"}
    job = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    try:
        yield pilot, directory
    finally:
        slurm.admin("scancel", job)
        wait_until(slurm.is_idle, 60.0)


def _rate_real(here: Place, slurm: Slurm, rounds: int, number: int, slots: int) -> Measured:
    """Return how many /bin/true a second go through a pilot of four nodes."""
    loop = c_loop()
    with _real_pilot(here, slurm) as (pilot, _):
        _wait_nodes(here.client, pilot, _REAL)

        def ours() -> float:
            started = time.perf_counter()
            here.wait(here.submit(specs(["/bin/true"], number)), 600.0)
            return number / (time.perf_counter() - started)

        ours()
        values = in_turn(
            {
                f"pilotmtc, {_REAL} nodes x {CORES}": ours,
                f"C posix_spawn loop, {slots} at once": lambda: number / loop(["/bin/true"] * number, slots),
            },
            rounds,
        )
    series = tuple(Series(name, "tasks/s", tuple(found)) for name, found in values.items())
    return Measured(
        f"/bin/true through a pilot of {_REAL} real nodes x {CORES}", series[0].median, "tasks/s", series=series,
        note=f"the nodes, the agent and the store share the {len(os.sched_getaffinity(0))} cores of this machine",
    )  # fmt: skip


# -- many emulated nodes --------------------------------------------------------------------------------------


def emulated(rounds: int, scale: float, slots: int) -> list[Measured]:
    """1,024 emulated nodes of twelve slots: the same, and how many tasks a second an agent can hand out to them."""
    nodes = max(int(_EMULATED * scale), PROCESSES)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # for the bare ROUTER
    ours: list[Filled] = []
    bare: list[Filled] = []
    rates: list[float] = []
    memory: list[float] = []
    for number in range(rounds):
        with place() as here:
            bare.append(_fill_bare(here, nodes))
            campaign = here.submit(specs(["/bin/sleep"], [LONG_S] * (nodes * CORES)))
            with emulated_pilot(here, here.client, here.path, nodes) as (pilot, began):
                wait_done(here.client, campaign, 300.0)
                ours.append(fill(here.client, pilot, began, nodes * CORES))
                started = time.perf_counter()
                many = int(100_000 * scale)
                wait_done(here.client, here.submit(specs(["/bin/true"], many)), 300.0)
                rates.append(many / (time.perf_counter() - started))
                memory.append(memory_mb(here.processes("pilotmtc.agent --store")[0])[1])
        say(f"round {number + 1} of {rounds}: {ours[-1]}, bare ZeroMQ {bare[-1]}, {rates[-1]:,.0f} tasks/s")
    what = f"{nodes:,} emulated nodes x {CORES}"
    return [
        *_filled(what, {"pilotmtc": ours, "the same nodes let in by a bare ROUTER with CURVE": bare}, _EMULATION),
        Measured(
            f"tasks that are over at once through {what}", statistics.median(rates), "tasks/s",
            note="from submit to the last result on disk: the agent, the store and the messages between, no processes",
        ),
        Measured(f"memory: agent with {what}, peak", max(memory), "MB", 150.0),
    ]  # fmt: skip


def study(rounds: int, scale: float, slots: int) -> list[Measured]:
    """Ten tasks of half a minute a core on 12,288 emulated cores, the store behind a real sshd, in real time."""
    return _study(max(int(_EMULATED * scale), PROCESSES), least=0.99, agent_mb=150.0, server_mb=80.0)


def large_study(rounds: int, scale: float, slots: int) -> list[Measured]:
    """The same on 98,304 emulated cores of 8,192 nodes: almost a million tasks."""
    nodes = max(int(_LARGE * scale), PROCESSES)
    return _study(nodes, least=0.97, agent_mb=600.0, server_mb=120.0, filled_s=30.0)


def _study(
    nodes: int, *, least: float, agent_mb: float, server_mb: float, filled_s: float | None = None
) -> list[Measured]:
    cores = nodes * CORES
    chance = random.Random(1)
    durations = [chance.uniform(_SHORTEST_S, _LONGEST_S) for _ in range(cores * _PER_CORE)]
    best = greedy(durations, cores)
    say(f"{len(durations):,} tasks on {cores:,} cores take {best:.0f} s at least")
    with remote_store() as (remote, here), remote.client() as client:
        campaign = submit(client, specs(["/bin/sleep"], (f"{duration:.4f}" for duration in durations)), "study")
        with emulated_pilot(here, client, remote.url, nodes) as (pilot, began):
            agent = here.processes("pilotmtc.agent --store")[0]
            server = client.call(GetStore()).pid
            wait_done(client, campaign, best + 600.0)
            cost = {"agent": cpu_s(agent), "store server": cpu_s(server)}
            memory = {"agent": memory_mb(agent)[1], "store server": memory_mb(server)[1]}
            spans = list(_spans(client, pilot))
    if len({span.task for span in spans}) != len(durations) or len(spans) != len(durations):
        raise RuntimeError(f"{len(spans)} attempts are recorded of {len(durations)} tasks")
    first = min(span.started_at for span in spans)
    last = max(span.started_at + span.elapsed_s for span in spans)
    filled = _filled_by(spans, began, cores)
    spent = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in cost.items())
    what = f"study: {len(durations):,} tasks of uniform({_SHORTEST_S:g}, {_LONGEST_S:g}) s on {cores:,} emulated cores"
    return [
        Measured(
            what, best / (last - began), "of greedy", least, at_least=True,
            series=(
                Series("pilotmtc, from the start of the allocation to the last end", "s", (last - began,)),
                Series("pilotmtc, from the first task's start", "s", (last - first,)),
                Series("greedy list scheduling, from nothing", "s", (best,)),
                Series("pilotmtc, until the first task ran", "s", (filled.first_s,)),
                Series("pilotmtc, until all slots were busy", "s", (filled.all_s,)),
            ),
            note=f"{_EMULATION}; the store is behind a real sshd; CPU: {spent}",
        ),
        Measured(f"study: until all {cores:,} slots were busy", filled.all_s, "s", filled_s),
        Measured("memory: agent meanwhile, peak", memory["agent"], "MB", agent_mb),
        Measured("memory: store server meanwhile, peak", memory["store server"], "MB", server_mb),
    ]  # fmt: skip


def greedy(durations: Iterable[float], cores: int) -> float:
    """Return how long greedy list scheduling takes: the next task to the core that is free first."""
    free = [0.0] * cores
    for duration in durations:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


@contextlib.contextmanager
def emulated_pilot(here: Place, client: StoreClient, url: str, nodes: int) -> Iterator[tuple[Pilot, float]]:
    """Give an agent that finds itself in an allocation of emulated nodes, and when it was started."""
    pilot = _pilot(client, here.directory, nodes, CORES)
    directory = Path(pilot.directory)
    write_srun(directory / "srun", nodes, PROCESSES)
    command = [
        sys.executable, "-m", "pilotmtc", "--store", url, "agent", "--pilot", str(pilot.id),
        "--directory", str(directory), "--allocation",
    ]  # fmt: skip
    with (directory / "agent.log").open("wb") as log:
        began = time.time()
        job = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(directory, nodes, CORES)
        )
    try:
        wait_until(
            lambda: client.call(GetPilots(id=pilot.id)).pilots[0].state is PilotState.ACTIVE or job.poll() is not None,
            60.0,
        )
        if job.poll() is not None:
            raise RuntimeError(f"the agent has left: {(directory / 'agent.log').read_text()[-500:]}")
        yield pilot, began
        client.call(DrainPilot(pilot.id))
        if job.wait(60.0) != 0:
            raise RuntimeError(f"the agent ended with {job.returncode}: {(directory / 'agent.log').read_text()[-500:]}")
    finally:
        if job.poll() is None:
            job.terminate()
            job.wait(30.0)


def _fill_bare(here: Place, nodes: int) -> Filled:
    """Return in what time the emulated nodes are started and let in by a socket that does nothing else."""
    directory = here.directory / secrets.token_hex(4)
    directory.mkdir()
    server_key, server_secret = zmq.curve_keypair()
    public_key, secret_key = zmq.curve_keypair()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.curve_server = True
        router.curve_publickey, router.curve_secretkey = server_key, server_secret
        router.setsockopt(zmq.BACKLOG, nodes)
        port = router.bind_to_random_port("tcp://127.0.0.1")
        contact = Contact(
            f"tcp://127.0.0.1:{port}", server_key, public_key, secret_key, 60.0, 1, "", str(directory), {"": CORES},
            0, 0, False, {},
        )  # fmt: skip
        contact.write(directory / NAME)
        write_srun(directory / "srun", nodes, PROCESSES)
        began = time.time()
        with subprocess.Popen([str(directory / "srun")], cwd=directory, stdin=subprocess.DEVNULL) as job:
            here_now: dict[bytes, int] = {}
            first = 0.0
            while len(here_now) < nodes:
                if not router.poll(60_000):
                    job.kill()
                    raise RuntimeError(f"only {len(here_now)} of {nodes} emulated nodes came")
                identity, *parts = router.recv_multipart()
                message = decode(parts)
                if isinstance(message, WorkerReady):
                    first = first or time.time()
                    here_now[identity] = message.birth
                    router.send_multipart([identity, encode(Accepted(message.birth))])
            filled = Filled(first - began, time.time() - began)
            for identity, birth in here_now.items():
                router.send_multipart([identity, encode(Dismissed(birth, "told"))])
            job.wait(60.0)
    return filled


# -- both -----------------------------------------------------------------------------------------------------


def _pilot(client: StoreClient, directory: Path, nodes: int, cores: int) -> Pilot:
    key = secrets.token_hex(4)
    own = directory / "pilots" / key
    own.mkdir(parents=True)
    return client.call(CreatePilot(key, PilotDescription(nodes=nodes, cores=cores), str(own))).pilots[0]


def _wait_nodes(client: StoreClient, pilot: Pilot, nodes: int) -> None:
    wait_until(lambda: client.call(GetPilots(id=pilot.id)).pilots[0].nodes == nodes, 60.0)


def wait_done(client: StoreClient, campaign: CampaignId, timeout_s: float) -> None:
    """Wait until all tasks are DONE, without asking so often that it costs."""

    def done() -> bool:
        found = client.call(GetCampaigns(id=campaign)).campaigns[0]
        return found.counts.get(TaskState.DONE, 0) == found.received

    until = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > until:
            raise TimeoutError(f"campaign {campaign} is not over after {timeout_s:g} s")
        time.sleep(0.1)


def _spans(client: StoreClient, pilot: Pilot) -> Iterator[Span]:
    before = 0
    while True:
        page = client.call(GetSpans(pilot.id, before))
        yield from page.spans
        if not page.next:
            return
        before = page.next


def fill(client: StoreClient, pilot: Pilot, began: float, slots: int) -> Filled:
    return _filled_by(list(_spans(client, pilot)), began, slots)


def _filled_by(spans: list[Span], began: float, slots: int) -> Filled:
    """Return when the first slot and when all of them were busy; each is, for the first time, with its first task."""
    firsts: dict[tuple[str, str], float] = {}
    for span in spans:
        key = (span.node, span.slot)
        firsts[key] = min(firsts.get(key, span.started_at), span.started_at)
    if len(firsts) != slots:
        raise RuntimeError(f"{len(firsts)} of {slots} slots were ever busy")
    return Filled(min(firsts.values()) - began, max(firsts.values()) - began)


def _filled(what: str, found: dict[str, list[Filled]], note: str = "") -> list[Measured]:
    """Return both times of each contender."""
    lines = []
    for text, pick in (("the first task", "first_s"), ("all slots busy", "all_s")):
        series = tuple(Series(name, "s", tuple(getattr(one, pick) for one in values)) for name, values in found.items())
        lines.append(Measured(f"{what}: job's start to {text}", series[0].median, "s", series=series, note=note))
    return lines
