"""The fake engine's state: how it is told to behave, what it holds, what it saw."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from loadtest.fake.answers import Json, error_body, without_paths


@dataclass(frozen=True)
class Behaviour:
    """What the fake does. Every field can be changed while it runs.

    A fault (from `headers_time_s` on) strikes the next `faulty_calls` inference calls, or all.
    """

    tokens: int = 8
    """Length of an answer that ends by itself."""
    text: str | None = None
    """The answer instead of the marked one."""
    first_token_time_s: float = 0.0
    token_time_s: float = 0.0
    tokens_at_once: int = 1
    """Fast calls: so many tokens' events leave in one write, a write every so many token times, as
    behind a proxy that joins them."""
    load_time_s: float = 0.0
    """A load stalls every stream for this long, as the real one does."""
    hold_loads: bool = False
    """Loads go on, and stall all, until this is false again."""
    load_error: str | None = None
    """Loads fail with 500 and this text."""
    frozen: bool = False
    """Nothing is answered and no stream goes on, as under SIGSTOP."""
    health: str = "ok"
    """`ok`, `dead` (503) or `silent` (never answers)."""
    skip_name_validation: bool = False
    """An unknown model is answered by the base."""
    inert: str | None = None
    """Adapters whose names begin so give the base's log-probabilities."""
    logprob_noise: float = 0.0
    """How far log-probabilities stray from one call to the next at most, in nats."""
    hold_after_tokens: int | None = None
    """Answers wait after this many tokens until it is None again."""
    headers_time_s: float = 0.0
    status: int | None = None
    """Answer with this error status."""
    garbage: str | None = None
    """`body`: what is no answer of vLLM's; `http`: what is no HTTP."""
    die_after_tokens: int | None = None
    """Close the connection without an end."""
    error_after_tokens: int | None = None
    """An error event in mid-stream; plain calls answer 500."""
    faulty_calls: int | None = None
    reset_share: float = 0.0
    """This share of the fast calls is broken off by a TCP reset, before the answer or in it."""

    def without_faults(self) -> "Behaviour":
        """The same engine on a good day."""
        return replace(
            self,
            headers_time_s=0.0,
            status=None,
            garbage=None,
            die_after_tokens=None,
            error_after_tokens=None,
        )

    def changed(self, values: Json) -> "Behaviour":
        """With the given fields set; ValueError names a wrong one."""
        kinds = get_type_hints(Behaviour)
        for name, value in values.items():
            if name not in kinds:
                raise ValueError(f"{name}: no such field; there are {', '.join(kinds)}")
            allowed = get_args(kinds[name]) or (kinds[name],)
            if float in allowed:
                allowed = (*allowed, int)
            if type(value) not in allowed:
                raise ValueError(
                    f"{name}: must be {' or '.join(kind.__name__ for kind in allowed)}"
                )
        return replace(self, **values)


@dataclass
class Call:
    """One request as the fake saw it. Times are monotonic seconds, comparable on one machine."""

    id: int
    method: str
    route: str
    headers: dict[str, str]
    body: Any
    """Parsed JSON, or None."""
    started_s: float
    ended_s: float | None = None
    outcome: str = "open"
    """`open`, `answered`, `client_closed`, or `dropped` by a fault."""
    status: int | None = None
    tokens_sent: int = 0


@dataclass
class Totals:
    """What the fast calls came to; each counts once among the open or the ways to end."""

    calls: int = 0
    open: int = 0
    answered: int = 0
    client_closed: int = 0
    reset: int = 0
    tokens_sent: int = 0
    writes: int = 0
    """Pieces of streams: one for a step of one stream, however many events are in it."""


@dataclass
class Load:
    """One load of an adapter."""

    name: str
    path: str
    started_s: float
    ended_s: float | None = None
    status: int | None = None


class Batch:
    """Who is computed now: at most `max_seqs` calls, of at most `max_loras` adapters."""

    def __init__(self, max_seqs: int, max_loras: int) -> None:
        self._max_seqs = max_seqs
        self._max_loras = max_loras
        self._running: Counter[str | None] = Counter()
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def running(self) -> int:
        return self._running.total()

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    @asynccontextmanager
    async def seat(self, adapter: str | None) -> AsyncIterator[None]:
        """A place in the batch for a call of this adapter (None is the base)."""
        while not self._has_room(adapter):
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
        self._running[adapter] += 1
        try:
            yield
        finally:
            self._running[adapter] -= 1
            self._running += Counter()  # drops the zeros
            self._wake()

    def _has_room(self, adapter: str | None) -> bool:
        if self.running >= self._max_seqs:
            return False
        loras = self._running.keys() - {None}
        return adapter is None or adapter in loras or len(loras) < self._max_loras

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)


@dataclass
class Engine:
    """Everything the fake knows. Whatever changes what others wait for calls `announce`."""

    base: str
    max_model_len: int
    batch: Batch
    behaviour: Behaviour
    adapters: dict[str, str] = field(default_factory=dict)
    """Loaded adapters: name to path."""
    calls: deque[Call] = field(default_factory=lambda: deque(maxlen=20_000))
    loads: list[Load] = field(default_factory=list)
    started_at_s: float = field(default_factory=time.time)
    loading: bool = False
    totals: Totals | None = None
    """Kept in fast mode, where calls leave no record."""
    _next_call: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _one_load: asyncio.Lock = field(default_factory=asyncio.Lock)

    def announce(self) -> None:
        """Wake all who wait for a change."""
        self._news.set()
        self._news = asyncio.Event()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return once `holds()` is true."""
        while not holds():
            await self._news.wait()

    def open_call(self, method: str, route: str, headers: dict[str, str], body: Any) -> Call:
        """Record a request that came in."""
        self._next_call += 1
        call = Call(self._next_call, method, route, headers, body, time.monotonic())
        self.calls.append(call)
        return call

    def take_behaviour(self) -> Behaviour:
        """How the next inference call is to go; a counted fault is used up by it."""
        left = self.behaviour.faulty_calls
        if left is None:
            return self.behaviour
        if left <= 0:
            return self.behaviour.without_faults()
        self.behaviour = replace(self.behaviour, faulty_calls=left - 1)
        return self.behaviour

    async def step(self, sent: int, time_s: float) -> None:
        """Let the time of one token pass, and whatever holds the engine up."""
        await asyncio.sleep(time_s)
        await self.until(lambda: not self.loading and not self._held(sent))

    def _held(self, sent: int) -> bool:
        limit = self.behaviour.hold_after_tokens
        return self.behaviour.frozen or (limit is not None and sent >= limit)

    async def load(self, name: str, path: str) -> tuple[int, str | Json]:
        """Load an adapter: the answer's status and its text or error."""
        async with self._one_load:
            entry = Load(name, path, time.monotonic())
            self.loads.append(entry)
            refusal = self._refusal(name, path)
            if refusal is None:
                await self._stall()
                refusal = self._failure(name, path)
            entry.ended_s = time.monotonic()
            if refusal is not None:
                entry.status = refusal["error"]["code"]
                return refusal["error"]["code"], refusal
            entry.status = 200
            self.adapters[name] = path
            return 200, f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, name: str) -> tuple[int, str | Json]:
        """Forget an adapter."""
        if not name:
            text = "'lora_name' needs to be provided to unload a LoRA adapter."
            return 400, error_body(text, "InvalidUserInput", 400)
        if name not in self.adapters:
            text = f"The lora adapter '{name}' cannot be found."
            return 404, error_body(text, "NotFoundError", 404)
        del self.adapters[name]
        return 200, f"Success: LoRA adapter '{name}' removed successfully."

    async def _stall(self) -> None:
        self.loading = True
        try:
            await asyncio.sleep(self.behaviour.load_time_s)
            await self.until(lambda: not self.behaviour.hold_loads)
        finally:
            self.loading = False
            self.announce()

    def _refusal(self, name: str, path: str) -> Json | None:
        text = None
        if not name or not path:
            text = "Both 'lora_name' and 'lora_path' must be provided."
        elif name == self.base:
            text = f"The lora adapter '{name}' conflicts with a served base model."
        elif name in self.adapters:
            text = (
                f"The lora adapter '{name}' has already been loaded. If you want to load the "
                "adapter in place, set 'load_inplace' to True."
            )
        return None if text is None else error_body(text, "InvalidUserInput", 400)

    def _failure(self, name: str, path: str) -> Json | None:
        if self.behaviour.load_error is not None:
            return error_body(self.behaviour.load_error, "InternalServerError", 500)
        if not (Path(path) / "adapter_config.json").is_file():
            text = f"Loading lora {name} failed: No adapter found for {path}"
            return error_body(without_paths(text), "NotFoundError", 404)
        return None

    def state(self) -> Json:
        """What `GET /_fake/state` answers."""
        return {
            "now_s": time.monotonic(),
            "behaviour": asdict(self.behaviour),
            "adapters": self.adapters,
            "open": sum(call.outcome == "open" for call in self.calls),
            "totals": None if self.totals is None else asdict(self.totals),
            "running": self.batch.running,
            "waiting": self.batch.waiting,
            "calls": [asdict(call) for call in self.calls],
            "loads": [asdict(load) for load in self.loads],
        }

    def control(self, change: Json) -> None:
        """Behaviour fields, and the moves `restart`, `forget_adapters`, `forget_calls` (true)."""
        moves = {"restart", "forget_adapters", "forget_calls"}
        asked = {name for name in moves & change.keys() if change[name]}
        values = {name: value for name, value in change.items() if name not in moves}
        if "reset_share" in values and self.totals is None:
            raise ValueError("reset_share: only the fast fake has it; start it with --fast")
        self.behaviour = self.behaviour.changed(values)
        if asked & {"restart", "forget_adapters"}:
            self.adapters.clear()
        if "restart" in asked:
            self.started_at_s = time.time()
        if "forget_calls" in asked:
            self.calls = deque((c for c in self.calls if c.outcome == "open"), maxlen=20_000)
            self.loads.clear()
        self.announce()
