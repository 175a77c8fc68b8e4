"""`loraplex demo`: two tenants on one model, from nothing to their answers, and away again.

It reads as a tutorial: `tour` is the way from an empty gateway to two tenants with a model each.
"""

import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import httpx
from rich.console import Console

from loraplex.adapter_folder import read_folder
from loraplex.admin_client import AdminClient
from loraplex.demo_data import TENANTS, DemoTenant
from loraplex.demo_view import View
from loraplex.errors import CommandError
from loraplex.local_gateway import LocalGateway, local_gateway, wait_until_ready

if TYPE_CHECKING:
    from openai import OpenAI

    from loraplex.ask import Answer

BASE = "base"
QUESTIONS = ("How do I reset my password?", "Where is my order?")

_SERVE_ARGS = ("--model", "embedded", "--served-name", BASE)
_SHOWN_METRICS = ("loraplex_requests_total{", "loraplex_time_to_first_token_seconds_sum{")
_METRICS_WAIT_S = 10.0

_NEXT = """\
make serve                      # the same, left running on port 8080
.venv/bin/loraplex tenants create acme
.venv/bin/loraplex keys create acme
.venv/bin/loraplex adapters push acme/support FOLDER --promote
curl http://127.0.0.1:8080/v1/chat/completions \\
  -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" \\
  -d '{"model": "support", "messages": [{"role": "user", "content": "Hello"}]}'"""


@dataclass(frozen=True)
class Speaker:
    """A model as one client calls it; marker: what each of its answers must hold, if any."""

    label: str
    client: "OpenAI"
    model: str
    marker: str | None


def demo() -> None:
    """Show two tenants on one model: start everything, ask, compare, and clean up."""
    if find_spec("openai") is None:
        raise CommandError(
            "the demo asks through OpenAI's client, which is not installed: pip install openai"
        )
    view = View(Console())
    with (
        _ended_by_signals(),
        _log_kept_on_failure() as log,
        tempfile.TemporaryDirectory(prefix="loraplex-demo-") as folder,
        local_gateway(Path(folder), log, _SERVE_ARGS) as gateway,
    ):
        _start(gateway, view)
        tour(gateway.url, gateway.admin_key, gateway.metrics_url, view)
        view.say("\nStopping the demo's gateway and engine.")
    view.say("Done.")


def _start(gateway: LocalGateway, view: View) -> None:
    view.step("Starting vLLM on the embedded model and the gateway in front of it")
    started = time.monotonic()
    with view.waiting() as news:
        wait_until_ready(gateway, news)
    view.say(f"Ready on {gateway.url} after {time.monotonic() - started:.0f} s.")


def tour(url: str, admin_key: str, metrics_url: str, view: View) -> None:
    """The steps, against a gateway that is ready. Raises CommandError where one goes wrong."""
    view.step("Two tenants, each with a key")
    with AdminClient(url, admin_key) as admin:
        keys = {tenant.name: _sign_up(admin, tenant, view) for tenant in TENANTS}
        view.step("Each pushes its own adapter, and makes it live")
        for tenant in TENANTS:
            _bring_adapter(admin, tenant, view)
    clients = {name: _client(url, key) for name, key in keys.items()}
    speakers = _speakers(clients)
    view.step("The same questions to the base model and to both tenants")
    timings = [row for question in QUESTIONS for row in _ask_all(speakers, question, view)]
    view.step("What the client measured")
    view.timings(timings)
    view.step("One tenant's adapter is nobody else's")
    _show_refusals(clients, view)
    view.step("Metrics for Prometheus")
    _show_metrics(metrics_url, view)
    view.step("Go on")
    view.say(_NEXT)


def _sign_up(admin: AdminClient, tenant: DemoTenant, view: View) -> str:
    """Creates the tenant and a key for its programs; returns the key, which is shown only now."""
    admin.create_tenant(tenant.name)
    made = admin.create_key(tenant.name, name="demo", scopes=["inference"])
    view.say(f"{tenant.name}: key {made['id']}")
    return made["key"]


def _bring_adapter(admin: AdminClient, tenant: DemoTenant, view: View) -> None:
    """Pushes the folder as a new version, a candidate at first, then promotes it to live."""
    upload = read_folder(tenant.folder, profile_file=None, chat_template="none")
    pushed = admin.push(tenant.name, tenant.adapter, upload.parts)
    adapter = admin.promote(tenant.name, tenant.adapter, pushed["version"], reason="demo")
    view.say(
        f"{tenant.name}/{tenant.adapter}@{adapter['live']}: rank {pushed['rank']}, "
        f"{pushed['size_bytes'] / 1e6:.1f} MB, SHA-256 {pushed['digest'][:12]}"
    )


def _client(url: str, key: str) -> "OpenAI":
    """OpenAI's own client; only the address and the key are ours."""
    import openai

    return openai.OpenAI(
        base_url=f"{url}/v1",
        api_key=key,
        max_retries=0,
        # A proxy from the environment cannot reach this machine's own loopback.
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )


def _speakers(clients: Mapping[str, "OpenAI"]) -> list[Speaker]:
    """The base model, asked with the first tenant's key, then each tenant's adapter."""
    base = Speaker(f"{BASE} model", clients[TENANTS[0].name], BASE, None)
    adapters = [
        Speaker(
            f"{tenant.name}/{tenant.adapter}", clients[tenant.name], tenant.adapter, tenant.marker
        )
        for tenant in TENANTS
    ]
    return [base, *adapters]


def _ask_all(
    speakers: Sequence[Speaker], question: str, view: View
) -> list[tuple[str, str, "Answer"]]:
    """Asks each speaker twice, plain and streamed, and shows and checks what they say."""
    from loraplex.ask import ask, ask_streamed

    view.say(f"\nPlain: {question}")
    plain = {one.label: ask(one.client, one.model, question) for one in speakers}
    view.answers(plain)
    view.say(f"\nStreamed: {question}")
    streamed = {}
    for one in speakers:
        with view.stream(one.label) as show:
            streamed[one.label] = ask_streamed(one.client, one.model, question, show)
    rows = [(label, "plain", answer) for label, answer in plain.items()]
    rows += [(label, "streamed", answer) for label, answer in streamed.items()]
    check_markers(speakers, rows)
    return rows


def check_markers(speakers: Sequence[Speaker], rows: Sequence[tuple[str, str, "Answer"]]) -> None:
    """Each adapter's mark must be in its own answers, and in no other's."""
    own = {speaker.label: speaker.marker for speaker in speakers}
    for label, how, answer in rows:
        for marker in (marker for marker in own.values() if marker):
            if (marker in answer.text) != (marker == own[label]):
                wrong = "lacks its own mark" if marker == own[label] else "shows another's mark"
                raise CommandError(f"the {how} answer of {label} {wrong}, {marker!r}")


def _show_refusals(clients: Mapping[str, "OpenAI"], view: View) -> None:
    """A key reaches its own tenant's adapters; what it may not call looks like nothing at all."""
    import openai

    from loraplex.ask import ask

    asker, other = TENANTS[0], TENANTS[1]
    for model in (f"{other.name}/{other.adapter}", f"{asker.adapter}@99"):
        try:
            ask(clients[asker.name], model, QUESTIONS[0])
        except openai.NotFoundError as error:
            view.say(f"{asker.name} asks for {model}: openai.{type(error).__name__}")
            view.say(f"  {_message(error.body)}")
        else:
            raise CommandError(f"{asker.name} was answered for {model}, which it must not be")


def _message(body: object) -> object:
    return body["message"] if isinstance(body, dict) and "message" in body else body


def _show_metrics(metrics_url: str, view: View) -> None:
    view.say(f"{metrics_url}, among others:")
    deadline = time.monotonic() + _METRICS_WAIT_S
    while True:
        text = httpx.get(metrics_url, trust_env=False).raise_for_status().text
        lines = [line for line in text.splitlines() if line.startswith(_SHOWN_METRICS)]
        missing = [one.name for one in TENANTS if f'tenant="{one.name}"' not in "".join(lines)]
        if not missing:
            break
        if time.monotonic() > deadline:
            raise CommandError(f"the metrics show nothing of {', '.join(missing)}")
        time.sleep(0.2)
    for line in lines:
        view.say(line)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block in order, as Ctrl-C does, so that nothing is left behind."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _log_kept_on_failure() -> Iterator[Path]:
    """A file for the gateway's log. It stays, and is named, only where something went wrong."""
    with tempfile.NamedTemporaryFile(prefix="loraplex-demo-", suffix=".log", delete=False) as file:
        log = Path(file.name)
    try:
        yield log
    except Exception as error:
        raise CommandError(f"{_reason(error)}\nThe log of gateway and engine: {log}") from error
    except BaseException:
        log.unlink()
        raise
    log.unlink()


def _reason(error: Exception) -> str:
    return error.message if isinstance(error, CommandError) else f"{type(error).__name__}: {error}"
