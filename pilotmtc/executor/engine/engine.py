"""What makes a pool work: its connection to the store, and three threads. It knows nothing of who holds the pool.

A sender submits calls, a receiver ends their futures, a keeper looks after the pilots. All begin with the first call,
and end when no call is left and none can come.
"""

import contextlib
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import Struct, structs

from pilotmtc.errors import PilotMTCError, UsageError
from pilotmtc.executor.engine.ledger import BAD, CLOSED, Future, Ledger, Row, Target, end_all
from pilotmtc.executor.engine.values import Values
from pilotmtc.executor.future import PilotFuture, PoolBroken, StoredValue
from pilotmtc.executor.options import CallSetup
from pilotmtc.executor.pickling.modules import ShippedModules
from pilotmtc.executor.pickling.pickling import Blob, PickledCall, PickledFunction, Pickler
from pilotmtc.executor.pickling.trust import check_account
from pilotmtc.executor.texts import arguments, name_of, shown
from pilotmtc.model import Campaign, CampaignId, Function, Pilot, PilotDescription, Program, Template
from pilotmtc.protocol.client.tasks import KnownCall
from pilotmtc.protocol.client.watch import GetChanges
from pilotmtc.session.link import StoreLink
from pilotmtc.store.client.client import StoreClient
from pilotmtc.store.client.connect import connect_store
from pilotmtc.template.programs import directory_of

if TYPE_CHECKING:
    from pilotmtc.executor.engine.earlier import EarlierCalls
    from pilotmtc.executor.engine.keeper import Keeper
    from pilotmtc.executor.engine.receiver import Receiver
    from pilotmtc.executor.progress import PoolProgress
    from pilotmtc.pilots.local import AgentAhead

log = logging.getLogger(__name__)
_FIRST_S = 60.0  # how long the store may be out of reach at first; later, connections are made again for ever
_LAST_S = 10.0
_TARGETS = 1000


class Plan(Struct, frozen=True):
    """What a pool is.

    Attributes
    ----------
    url
        Of its store.
    here
        Whether that is on this host.
    pilot
        What its own pilots are; without ``campaign``.
    shared
        Any pilot of the store may have its calls.
    python
        The interpreter of its workers; empty is that of the pilots.
    resume
        Go on with the campaign of that name.
    memo
        Take the results of the same calls that the store knows.
    progress
        Shows how far it is.
    """

    url: str
    here: bool
    name: str
    pilot: PilotDescription
    resume: bool = False
    memo: bool = False
    shared: bool = False
    python: str = ""
    ship: bool | Sequence[ModuleType | str] = True
    initializer: Callable[..., object] | None = None
    initargs: tuple[object, ...] = ()
    progress: "PoolProgress | None" = None


class _Store(NamedTuple):
    """A connection to the store, and what it is used for."""

    client: StoreClient
    link: StoreLink
    values: Values


class Engine:
    """Sends the calls of one pool and ends their futures. Threads may share it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.ledger = Ledger()
        self._pickler = Pickler(self, ShippedModules(plan.ship), name=plan.name, memo=plan.memo)
        self._targets: dict[tuple[str, int], Target] = {}
        self._setup: Blob | None = None
        self._setup_identity = ""
        self._program: Program | None = None  # what was seen of the files that calls are watched for
        self._watched: set[tuple[str, ...]] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []  # the first one, the sender, ends last
        self._campaign: CampaignId | None = None
        self._ready = threading.Event()  # campaign and keeper are there, or never will be
        self._store: _Store | None = None
        self._keeper: Keeper | None = None
        self._receiver: Receiver | None = None
        self._earlier: EarlierCalls | None = None
        self.inherited = False  # this is a forked child, where its threads are not
        _engines.add(self)

    # -- for those who call -----------------------------------------------------------------------------------

    def for_many(self, function: Callable[..., object]) -> Callable[..., object] | PickledFunction:
        """Return what to `submit` for many calls of a function, all of which find it as it is now."""
        try:
            return self._pickler.function(function, looked_into=True) if callable(function) else function
        except Exception:  # noqa: BLE001 -- each of the calls will say it
            return function

    def submit(
        self, function: Callable[..., object] | PickledFunction, setup: CallSetup, args: Sequence[object],
        kwargs: dict[str, object], text: str | None = None,
    ) -> PilotFuture[Any]:  # fmt: skip
        """Have a function called, and return the future of that.

        Raises
        ------
        UsageError
            If a file that is to be watched cannot be read.
        """
        self._open(setup.template)
        words = arguments(args, kwargs) if text is None else text
        try:
            if isinstance(function, PickledFunction):
                code = function
            elif callable(function):
                code = self._pickler.function(function)
            else:
                raise TypeError(f"{shown(function)} cannot be called: give a function, and then its arguments")
            target = self._targets.get((code.blob.digest, id(setup))) or self._make_target(code, setup)
            pickled = self._pickler.call(args, kwargs)
        except Exception as error:  # noqa: BLE001 -- whatever keeps it from being pickled is this call's own
            failed: PilotFuture[Any] = PilotFuture(self, name_of(function), words)
            failed.begin()
            failed.set_exception(error)
            return failed
        future: PilotFuture[Any] = PilotFuture(self, code.name, words)
        if pickled.inputs:
            future.inputs = pickled.inputs
        known = self._find_earlier(code, pickled) if self.plan.resume else None
        if known is None:
            patient = threading.current_thread() not in self._threads
            ended = self.ledger.add(Row(future, target, pickled), patient=patient)
        else:
            ended = self.ledger.adopt(future, known.task, known.state)
            if known.state not in BAD:  # of those the new end is waited for
                assert self._receiver is not None
                self._receiver.tell_over((known.task,))
        if ended is not None:
            end_all([ended])
        return future

    def _find_earlier(self, function: PickledFunction, call: PickledCall) -> KnownCall | None:
        if not self._is_own_thread():
            self._wait()
        return None if self._earlier is None else self._earlier.take(function, call)

    def put(self, value: object) -> StoredValue:
        """Store a value, and return what stands for it."""
        store = self._open()
        self._wait()
        blob = self._pickler.value(value)
        store.values.put([blob], self._campaign)
        return StoredValue(self, blob.digest, blob.size, shown(value))

    def add_pilot(self, description: PilotDescription, wait_s: float | None) -> Pilot:
        """Start another pilot for the pool."""
        self._open()
        return self._wait().add(description, wait_s)

    @property
    def campaign(self) -> CampaignId | None:
        """The campaign that the calls are; None as long as the store has none of them."""
        return self._campaign

    @property
    def has_others(self) -> bool:
        """Whether pilots were added to the pool's own."""
        return self._keeper is not None and self._keeper.has_others

    def forget(self, future: Future) -> None:
        """Take note that a future was canceled."""
        end_all(self.ledger.cancel(future))

    def close(self) -> None:
        """Let no more calls come. May be called by a finalizer: it waits for nothing and nobody."""
        self.ledger.closing = True

    def join(self) -> None:
        """Wait until all calls are over and all is closed; who interrupts that wants to leave at once."""
        if not self._threads or self.inherited or self._is_own_thread():
            return
        try:
            self._threads[0].join()
        except KeyboardInterrupt:
            self._break(PoolBroken("interrupted"))
            self._threads[0].join(_LAST_S)
            raise
        self._threads = []  # nobody is to take threads that are over for left ones

    def _make_target(self, function: PickledFunction, setup: CallSetup) -> Target:
        plan, blobs = self.plan, [function.blob]
        with self._lock:
            if plan.initializer is not None:
                if self._setup is None:
                    self._setup = self._pickler.alone((plan.initializer, plan.initargs))
                    if plan.memo:
                        self._setup_identity = self._pickler.meaning((plan.initializer, plan.initargs))
                blobs.append(self._setup)
            made = Function(
                function.name,
                function.blob.digest,
                "" if self._setup is None else self._setup.digest,
                plan.python,
                sys.version_info[:2],
                identity=function.identity + self._setup_identity,
            )
            target = Target(setup.template_of(made), setup, tuple(blobs))
            self._targets[function.blob.digest, id(setup)] = target  # which keeps the set-up, and so its id
            while len(self._targets) > _TARGETS:
                del self._targets[next(iter(self._targets))]
            return target

    def _is_own_thread(self) -> bool:
        return threading.current_thread() in self._threads

    def _wait(self) -> "Keeper":
        """Wait for the campaign, and for who looks after its pilots."""
        self._ready.wait()
        broken = self.ledger.broken
        if broken is not None:
            raise PoolBroken(str(broken)) from broken
        if self._keeper is None:
            raise RuntimeError(CLOSED)
        return self._keeper

    # -- the life of the threads ------------------------------------------------------------------------------

    def _open(self, template: Template | None = None) -> "_Store":
        """Return the connection to the store; make it, and start the sender, if that has not been done.

        Parameters
        ----------
        template
            Of a call: have the files looked at that it is watched for, before anything is made in the store.
        """
        if self.inherited:
            raise UsageError(_FORKED)
        watch = template is not None and template.watch
        if self._store is None or (watch and watch not in self._watched):
            with self._lock:
                if self.ledger.closing:
                    raise RuntimeError(CLOSED)
                if self._store is None:
                    client = connect_store(self.plan.url, patience_s=None)
                    link = StoreLink(client, self.plan.url)
                    try:
                        self._look_at(template, link)
                    except BaseException:
                        client.close()
                        raise
                    self._store = _Store(client, link, Values(link, here=self.plan.here))
                    self._start("send", self._run)
                else:
                    self._look_at(template, self._store.link)
        return self._store

    def _look_at(self, template: Template | None, link: StoreLink) -> None:
        if template is None or not template.watch or template.watch in self._watched:
            return
        from pilotmtc.session.submit.programs import look

        seen = look(link, [template], directory_of(template)).program
        files = {} if self._program is None else self._program.files
        self._program = structs.replace(self._program or seen, files=files | seen.files)
        self._watched.add(template.watch)

    def _start(self, name: str, run: Callable[[], None]) -> threading.Thread:
        # Daemons: whoever interrupts the wait for them at the end of the program wants to leave.
        thread = threading.Thread(target=run, name=f"pilotmtc-pool-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _run(self) -> None:
        """Do all that a pool does, from its first call to its end."""
        store = self._store
        assert store is not None
        with contextlib.ExitStack() as stack:
            stack.callback(store.client.close)
            try:
                self._work(store, stack)
            except Exception as error:  # noqa: BLE001 -- it ends all futures
                self._break(error)
            finally:
                self._ready.set()
                self.ledger.close()
        self._store = self._keeper = self._receiver = self._earlier = None  # futures may live longer

    def _work(self, store: "_Store", stack: contextlib.ExitStack) -> None:
        plan, link, ledger = self.plan, store.link, self.ledger
        first = store.client.send(GetChanges(), _FIRST_S)  # before there is anything to miss
        # All this while the store's server is started or found.
        ahead = self._agent_ahead(stack)
        from pilotmtc.executor.engine.keeper import Keeper
        from pilotmtc.executor.engine.receiver import Receiver
        from pilotmtc.executor.engine.sender import Sender

        seq = first.result().seq
        if not plan.here:
            check_account(link)
        sender = Sender(
            link, ledger, store.values, name=plan.name, shared=plan.shared, memo=plan.memo,
            program=lambda: self._program,
        )  # fmt: skip
        campaign = sender.resume() if plan.resume else None
        if campaign is None:
            campaign = sender.begin()
        else:
            from pilotmtc.executor.engine.earlier import EarlierCalls

            self._earlier = EarlierCalls(link, campaign)
            stack.callback(self._tell_left)
        receiver = Receiver(link, ledger, store.values, campaign=campaign, seq=seq, on_broken=self._break)
        self._follow("receive", receiver.run, receiver.stop, stack)
        stack.callback(lambda: sender.seal(cancel=ledger.broken is not None))
        tick = self._show if plan.progress else None
        keeper = Keeper(
            link, plan.pilot, campaign, shared=plan.shared, tick=tick, ahead=ahead,
            unfit=lambda tasks, error: end_all(ledger.unfit(tasks, error)),
        )  # fmt: skip
        self._campaign, self._keeper, self._receiver = campaign, keeper, receiver
        self._follow("pilots", keeper.run, keeper.stop, stack)
        self._ready.set()
        sender.run(receiver.tell_over, keeper.hasten)

    def _agent_ahead(self, stack: contextlib.ExitStack) -> "AgentAhead | None":
        """Start the agent of the pool's own pilot if it is certain that it will have one on this machine."""
        plan = self.plan
        if plan.pilot.scheduler or plan.shared or plan.resume:
            return None
        from pilotmtc.pilots.local import AgentAhead

        ahead = AgentAhead(plan.url)
        stack.callback(ahead.close)
        return ahead

    def _tell_left(self) -> None:
        left = 0 if self._earlier is None else self._earlier.left
        if left:
            log.warning(
                "%d call%s of campaign %d %s not made again: see pilotmtc tasks --campaign %d",
                left, "s" * (left > 1), self._campaign, "were" if left > 1 else "was", self._campaign,
            )  # fmt: skip

    def _follow(
        self, name: str, run: Callable[[], None], stop: Callable[[], None], stack: contextlib.ExitStack
    ) -> None:
        """Start another thread, which is ended with `stop` when the stack unwinds."""

        def guarded() -> None:
            try:
                run()
            except Exception as error:  # noqa: BLE001 -- it ends all futures
                self._break(error)

        thread = self._start(name, guarded)
        stack.callback(thread.join, _LAST_S)
        stack.callback(stop)

    def _break(self, error: BaseException) -> None:
        """End all futures: the pool can call nothing more."""
        if not isinstance(error, PoolBroken):
            fault = "" if isinstance(error, PilotMTCError | TimeoutError) else "a fault in pilotmtc itself: "
            broken = PoolBroken(f"{fault}{error or type(error).__name__}")
            broken.__cause__ = error
            error = broken
        end_all(self.ledger.break_(error))

    def _show(self, last: bool) -> None:
        progress, campaign = self.plan.progress, self._campaign
        if progress is not None and campaign is not None:
            added, counts = self.ledger.counts()
            there = {state: n for state, n in counts.items() if n}
            (progress.finish if last else progress)(Campaign(campaign, "", self.plan.name, 0.0, added, True, there))


# -- the end of the program, and forks ------------------------------------------------------------------------

_FORKED = "this pool was made before a fork, and its threads are in the parent: make one in the process that uses it"
_engines: "weakref.WeakSet[Engine]" = weakref.WeakSet()
exiting = threading.Event()


def _at_exit() -> None:
    """Wait for what pools still do, as the executors of the standard library do."""
    exiting.set()
    there = [engine for engine in list(_engines) if not engine.inherited]
    for engine in there:
        engine.ledger.close()
    for engine in there:
        engine.join()


def _after_fork() -> None:
    for engine in list(_engines):
        engine.inherited = True


os.register_at_fork(after_in_child=_after_fork)
# As concurrent.futures does: what `atexit` calls comes when threads cannot be waited for any more.
threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
