"""The demo's steps, to be read as a tutorial: from an empty gateway to two tenants' own models."""

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from loraplex.client.answers import Version
from loraplex.client.clients import Client
from loraplex.connection import Connection, client_of
from loraplex.demo_data import TENANTS, DemoTenant
from loraplex.demo_view import View
from loraplex.errors import CommandError

if TYPE_CHECKING:
    from openai import OpenAI

    from loraplex.ask import Answer

QUESTIONS = ("How do I reset my password?", "Where is my order?")

_SHOWN_METRICS = ("loraplex_requests_total{", "loraplex_time_to_first_token_seconds_sum{")
_METRICS_WAIT_S = 10.0

_NEXT = """\
make serve                      # the same, left running on port 8080; then:
.venv/bin/loraplex tenants create acme
KEY=$(.venv/bin/loraplex keys create acme)
.venv/bin/loraplex adapters push acme/support examples/demo/adapters/acme \\
  --evaluation examples/demo/evaluations/acme.json --promote
curl http://127.0.0.1:8080/v1/chat/completions \\
  -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" \\
  -d '{"model": "support", "messages": [{"role": "user", "content": "Hello"}]}'"""


@dataclass(frozen=True)
class Speaker:
    """A model as one client calls it. marker: what each of its answers must hold, if any."""

    label: str
    client: "OpenAI"
    model: str
    marker: str | None


@dataclass(frozen=True)
class Asked:
    """One question put to one speaker, and what came back. how: `plain` or `streamed`."""

    speaker: Speaker
    how: str
    answer: "Answer"


@dataclass(frozen=True)
class Tour:
    """The demo against a gateway that is ready. base: the base model's served name."""

    url: str
    metrics_url: str
    admin_key: str
    base: str
    view: View
    tenants: Sequence[DemoTenant] = TENANTS

    def run(self) -> None:
        """Every step in order. Raises CommandError where one goes wrong."""
        self.view.step("Two tenants, each with a key")
        with client_of(Connection(self.url, self.admin_key, "the demo's gateway")) as admin:
            keys = {tenant.name: self.sign_up(admin, tenant) for tenant in self.tenants}
            self.view.step("Each pushes an adapter of the same name, and makes it live")
            for tenant in self.tenants:
                self.bring_adapter(admin, tenant)
        with ExitStack() as closing:
            self.talk({n: closing.enter_context(self.client(key)) for n, key in keys.items()})
        self.view.step("Metrics for Prometheus, by tenant, adapter and version")
        self.show_metrics()
        self.view.step("Go on")
        self.view.say(_NEXT)

    def talk(self, clients: dict[str, "OpenAI"]) -> None:
        """What the tenants' programs do, each with its own client."""
        self.view.step("The same questions to the base model and to both tenants' adapters")
        speakers = self.speakers(clients)
        asked = [one for question in QUESTIONS for one in self.ask_all(speakers, question)]
        self.view.step("What the client measured")
        self.view.timings((one.how, one.answer) for one in asked)
        self.view.step("One tenant's adapter is nobody else's")
        self.show_refusals(clients)

    def sign_up(self, admin: Client, tenant: DemoTenant) -> str:
        """Creates the tenant and a key for its programs; the key is never shown again."""
        admin.create_tenant(tenant.name)
        made = admin.create_key(tenant.name, name="demo", scopes=["inference"])
        self.view.say(f"{tenant.name}: key {made['id']}")
        return made["key"]

    def bring_adapter(self, admin: Client, tenant: DemoTenant) -> None:
        """Pushes the folder, with the evaluation that it passed, and promotes the new version."""
        pushed = admin.push(tenant.name, tenant.adapter, tenant.folder, metadata=tenant.metadata)
        admin.promote(tenant.name, tenant.adapter, pushed["version"], reason="demo")
        self.view.say(_describe(tenant, pushed))

    def client(self, key: str) -> "OpenAI":
        """OpenAI's own client; only the address and the key are ours."""
        import openai

        return openai.OpenAI(
            base_url=f"{self.url}/v1",
            api_key=key,
            max_retries=0,
            # A proxy from the environment cannot reach this machine's own loopback.
            http_client=openai.DefaultHttpxClient(trust_env=False),
        )

    def speakers(self, clients: dict[str, "OpenAI"]) -> list[Speaker]:
        """The base model, asked with the first tenant's key, and each tenant's adapter."""
        base = Speaker("base model", clients[self.tenants[0].name], self.base, None)
        return [base] + [
            Speaker(
                f"{tenant.name}/{tenant.adapter}",
                clients[tenant.name],
                tenant.adapter,
                tenant.marker,
            )
            for tenant in self.tenants
        ]

    def ask_all(self, speakers: Sequence[Speaker], question: str) -> list[Asked]:
        """Asks each speaker plainly, then streamed, shows what they say and checks it."""
        from loraplex.ask import ask, ask_streamed

        self.view.say(f"\nPlain: {question}")
        plain = [Asked(one, "plain", ask(one.client, one.model, question)) for one in speakers]
        self.view.answers({one.speaker.label: one.answer.text for one in plain})
        self.view.say(f"\nStreamed: {question}")
        streamed = []
        for one in speakers:
            with self.view.stream(one.label) as show:
                answer = ask_streamed(one.client, one.model, question, show)
            streamed.append(Asked(one, "streamed", answer))
        check_markers(plain + streamed)
        return plain + streamed

    def show_refusals(self, clients: dict[str, "OpenAI"]) -> None:
        """A key reaches its own tenant's adapters; another's look like none at all."""
        import openai

        from loraplex.ask import ask

        asker, other = self.tenants[0], self.tenants[1]
        for model in (f"{other.name}/{other.adapter}", f"{asker.adapter}@99"):
            try:
                ask(clients[asker.name], model, QUESTIONS[0])
            except openai.NotFoundError as error:
                self.view.say(f"{asker.name} asks for {model}: openai.{type(error).__name__}")
                self.view.detail(_message(error.body))
            else:
                raise CommandError(f"{asker.name} was answered for {model}, which it must not be")

    def show_metrics(self) -> None:
        """A few lines of what Prometheus would scrape."""
        self.view.say(f"{self.metrics_url}, among others:")
        deadline = time.monotonic() + _METRICS_WAIT_S
        while not (lines := self._metrics()):
            if time.monotonic() > deadline:
                raise CommandError("the metrics do not show both tenants' requests")
            time.sleep(0.2)
        for line in lines:
            # The space is allowed there, and lets a line break between labels.
            self.view.detail(line.replace(",", ", "))

    def _metrics(self) -> list[str]:
        """The lines of each tenant's adapter; none while one is missing."""
        text = httpx.get(self.metrics_url, trust_env=False).raise_for_status().text
        lines = [line for line in text.splitlines() if line.startswith(_SHOWN_METRICS)]
        shown = []
        for tenant in self.tenants:
            labels = (f'tenant="{tenant.name}"', f'adapter="{tenant.adapter}"')
            own = [line for line in lines if all(label in line for label in labels)]
            if len(own) < len(_SHOWN_METRICS):
                return []
            shown += own
        return shown


def check_markers(asked: Iterable[Asked]) -> None:
    """Each adapter's mark must be in its own answers, and in no other's."""
    every = list(asked)
    for marker in {one.speaker.marker for one in every if one.speaker.marker}:
        for one in every:
            own = one.speaker.marker == marker
            if (marker in one.answer.text) != own:
                wrong = "lacks its own mark" if own else "shows another's mark"
                raise CommandError(f"{one.speaker.label}'s {one.how} answer {wrong}, {marker!r}")


def _describe(tenant: DemoTenant, pushed: Version) -> str:
    label = f"{tenant.name}/{tenant.adapter}@{pushed['version']}"
    size = f"{pushed['size_bytes'] / 1e6:.1f} MB"
    return f"{label}: {tenant.manner}; rank {pushed['rank']}, {size}"


def _message(body: object) -> str:
    return str(body["message"] if isinstance(body, dict) and "message" in body else body)
