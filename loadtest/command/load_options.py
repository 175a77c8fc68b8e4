"""What the command takes of the workload: short forms of its fields (loadtest.workload.spec)."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar

from typer import Option


class Kind(StrEnum):
    """How an open loop's arrivals are spread."""

    POISSON = "poisson"
    GAMMA = "gamma"
    CONSTANT = "constant"


class Unit(StrEnum):
    """Of a trace's timestamps."""

    S = "s"
    MS = "ms"
    US = "us"
    NS = "ns"


class RouteName(StrEnum):
    """What is asked."""

    CHAT = "chat"
    COMPLETIONS = "completions"


@dataclass(frozen=True)
class LoadOptions:
    """When requests come."""

    PANEL: ClassVar[str] = "Load"

    workload: Annotated[
        Path | None,
        Option(
            "--workload", metavar="FILE", help="A workload in YAML; the other options change it."
        ),
    ] = None
    rate: Annotated[
        str | None,
        Option(
            "--rate",
            metavar="RATE",
            help="Requests a second, whatever the answers do (open loop): `10`, steps `5,10,20`,"
            " a ramp `1..50@2m`, `inf`. Default: 1.",
        ),
    ] = None
    users: Annotated[
        str | None,
        Option(
            "--users",
            metavar="N",
            help="Instead, users who each wait for their answer (closed loop): `8`, `1,2,4`,"
            " `1..50@2m`.",
        ),
    ] = None
    trace: Annotated[
        Path | None,
        Option(
            "--trace",
            metavar="FILE",
            help="Instead, recorded traffic: CSV or JSONL, a timestamp a row.",
        ),
    ] = None
    duration: Annotated[
        str | None,
        Option(
            "--duration",
            metavar="TIME",
            help="Of the run, or of each step of --rate: `90`, `90s`, `5m`. Default: 60s.",
        ),
    ] = None
    requests: Annotated[
        int | None, Option("--requests", min=1, metavar="N", help="Ends the run after so many.")
    ] = None
    think: Annotated[
        str | None,
        Option(
            "--think",
            metavar="LAW",
            help="A user's pause after an answer: `2s`, `exponential:5`, `uniform:1,10`.",
        ),
    ] = None
    arrivals: Annotated[
        Kind | None,
        Option(
            "--arrivals",
            metavar="KIND",
            help="How --rate's are spread: poisson (default), gamma or constant.",
        ),
    ] = None
    burstiness: Annotated[
        float | None,
        Option(
            "--burstiness", metavar="SHAPE", help="Of gamma arrivals: below 1 they come in bursts."
        ),
    ] = None
    speed: Annotated[
        float | None, Option("--speed", metavar="FACTOR", help="2 replays --trace twice as fast.")
    ] = None
    trace_unit: Annotated[
        Unit | None,
        Option("--trace-unit", metavar="UNIT", help="Of --trace's numbers: s, ms, us, ns."),
    ] = None
    warmup: Annotated[
        str | None,
        Option("--warmup", metavar="TIME", help="The run's first, left out of all figures."),
    ] = None
    warmup_requests: Annotated[
        int, Option("--warmup-requests", min=0, metavar="N", help="So many of the first, too.")
    ] = 0
    cooldown: Annotated[
        str | None, Option("--cooldown", metavar="TIME", help="The run's last, left out too.")
    ] = None
    seed: Annotated[
        int | None,
        Option("--seed", min=0, help="The same seed, the same requests. Default: 0."),
    ] = None


@dataclass(frozen=True)
class WhoOptions:
    """Who asks which model."""

    PANEL: ClassVar[str] = "Models and tenants"

    model: Annotated[
        list[str] | None,
        Option(
            "--model",
            metavar="NAME",
            help="A model or adapter; repeatable; `adapter-{1..8}` is eight, `acme=NAME` one that"
            " only tenant acme asks. Default: the server's, if it has one.",
        ),
    ] = None
    model_choice: Annotated[
        str | None,
        Option("--model-choice", metavar="LAW", help="`uniform`, `zipf:1.1` or `round_robin`."),
    ] = None
    tenant: Annotated[
        list[str] | None,
        Option("--tenant", metavar="NAME", help="Who asks, with keys of --keys-file; repeatable."),
    ] = None
    keys_file: Annotated[
        Path | None,
        Option("--keys-file", metavar="FILE", help="Tenants' keys, a line NAME=KEY each."),
    ] = None
    tenant_choice: Annotated[
        str | None, Option("--tenant-choice", metavar="LAW", help="As --model-choice.")
    ] = None


@dataclass(frozen=True)
class AskOptions:
    """What requests hold."""

    PANEL: ClassVar[str] = "Requests"

    prompt_tokens: Annotated[
        str | None,
        Option(
            "--prompt-tokens",
            metavar="LAW",
            help="Of synthetic prompts: `512`, `uniform:100,900`, `lognormal:mean=512,sd=300`,"
            " `file:lengths.csv,column=prompt`. Default: 512.",
        ),
    ] = None
    prompts: Annotated[
        str | None,
        Option(
            "--prompts",
            metavar="FILE",
            help="Real ones instead: JSONL, CSV or text; `FILE,column=NAME,order=random`.",
        ),
    ] = None
    prefix: Annotated[
        str | None,
        Option(
            "--prefix",
            metavar="TOKENS",
            help="Prompts share a beginning: `200`, `200x8` is any of eight, `200/tenant` or"
            " `200/model` each its own.",
        ),
    ] = None
    max_tokens: Annotated[
        str | None,
        Option("--max-tokens", metavar="LAW", help="Of answers, as --prompt-tokens. Default: 128."),
    ] = None
    ignore_eos: Annotated[
        bool, Option("--ignore-eos", help="Answers as long as --max-tokens (vLLM and others).")
    ] = False
    turns: Annotated[
        str | None,
        Option(
            "--turns",
            metavar="LAW",
            help="Sessions of so many; `recorded`: those of --prompts' conversations.",
        ),
    ] = None
    route: Annotated[
        RouteName | None,
        Option("--route", metavar="NAME", help="chat (default) or completions."),
    ] = None
    stream: Annotated[bool | None, Option("--stream/--no-stream", help="Default: streamed.")] = None
    extra: Annotated[
        str | None,
        Option("--extra", metavar="JSON", help='Fields of the body, as `{"temperature": 0}`.'),
    ] = None
    usage: Annotated[
        bool | None,
        Option("--usage/--no-usage", help="Whether streams are asked for token counts."),
    ] = None
    tokenizer: Annotated[
        Path | None,
        Option(
            "--tokenizer",
            metavar="PATH",
            help="The model's folder or tokenizer.json: prompts then have exactly their tokens,"
            " and answers are counted where the server does not.",
        ),
    ] = None
