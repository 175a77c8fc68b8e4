"""Settings: flag, then environment (`LORAPLEX_...`), then file, then default. Read only here."""

import difflib
import shlex
from pathlib import Path
from typing import Annotated, Any

import platformdirs
import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from adapters_registry.bucket import parse_place


class Limits(BaseModel):
    """Bounds on what one request may ask for, since these fields are dear."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    body_bytes: int = Field(4 * 2**20, ge=1024, description="Largest request body.")
    depth: int = Field(64, ge=4, description="Deepest nesting of a request body.")
    n: int = Field(
        16, ge=1, description="Most answers to one request (`n`, `best_of`, beam width)."
    )
    prompts: int = Field(64, ge=1, description="Most prompts in one completions call.")
    max_tokens: int = Field(32_768, ge=1, description="Most tokens to generate.")
    logprobs: int = Field(20, ge=0, description="Most log-probabilities a token.")
    stop: int = Field(4, ge=0, description="Most stop strings; vLLM takes 4.")
    stop_chars: int = Field(512, ge=1, description="Longest stop string.")
    logit_bias: int = Field(1024, ge=0, description="Most entries of `logit_bias` or a token list.")
    tools: int = Field(128, ge=0, description="Most tools.")
    schema_bytes: int = Field(65_536, ge=0, description="Largest JSON schema or grammar.")
    regex_chars: int = Field(2048, ge=0, description="Longest regular expression.")
    upload_bytes: int = Field(2 * 2**30, ge=1024, description="Largest adapter upload.")
    archive_bytes: int = Field(
        64 * 2**30, ge=1024, description="Largest archive of a tenant to import."
    )


class Timeouts(BaseModel):
    """How long the gateway waits, in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    headers_s: float = Field(15, gt=0, description="A client's request headers.")
    body_s: float = Field(60, gt=0, description="A client's request body.")
    client_s: float = Field(60, gt=0, description="A client that does not read its answer.")
    connect_s: float = Field(5, gt=0, description="A connection to the engine.")
    first_byte_s: float = Field(600, gt=0, description="The engine's first byte.")
    idle_s: float = Field(120, gt=0, description="Silence in the middle of an answer.")
    load_s: float = Field(120, gt=0, description="The load of an adapter.")
    drain_s: float = Field(30, gt=0, description="Work in flight after SIGTERM.")
    engine_start_s: float = Field(900, gt=0, description="The engine's start, model load included.")


class Settings(BaseSettings):
    """Every setting of `loraplex serve`. In the environment, nested ones: `LORAPLEX_LIMITS__N`."""

    model_config = SettingsConfigDict(
        env_prefix="LORAPLEX_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    host: str = Field("127.0.0.1", description="Address the gateway listens on.")
    port: int = Field(8080, ge=0, le=65535, description="Port of the gateway.")
    workers: int = Field(
        1, ge=1, le=64, description="Gateway processes that share the port, each on a core."
    )
    metrics_host: str | None = Field(
        None, description="Address of the Prometheus endpoint; the gateway's own when unset."
    )
    metrics_port: int = Field(
        9464,
        ge=0,
        le=65535,
        description="Port of the Prometheus endpoint; each further worker takes the next one.",
    )
    metrics_idle_s: float = Field(
        3600, gt=0, description="Series of a version without traffic for this long are dropped."
    )
    data_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("loraplex")),
        description="What must not be lost: database, adapters, admin key.",
    )
    cache_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_cache_dir("loraplex")),
        description="What can be made again: the converted embedded model.",
    )
    database_url: str | None = Field(
        None, description="SQLAlchemy URL; SQLite in the data dir when unset."
    )
    artifacts_url: str | None = Field(
        None,
        description="Where adapter files lie, `s3://BUCKET/PREFIX`, with the credentials in the"
        " usual `AWS_...` variables; in the data dir when unset.",
    )
    s3_endpoint: str | None = Field(
        None, description="URL of the S3 server, of `s3://` sources too; AWS's own when unset."
    )
    admin_key: SecretStr | None = Field(
        None, description="The admin key; made at first start and kept in the data dir when unset."
    )
    model: str = Field("embedded", description="`embedded`, a folder, or a Hub id.")
    served_name: str | None = Field(None, description="The base model's name for clients.")
    max_lora_rank: int = Field(16, description="Highest rank an adapter may have.")
    max_loras: int = Field(8, ge=1, description="Adapters in one batch.")
    max_cpu_loras: int = Field(
        64, ge=2, description="Adapters an engine keeps in memory; each worker uses its share."
    )
    max_model_len: int | None = Field(
        None, ge=16, description="Context length; the model's own when unset."
    )
    dtype: str | None = Field(
        None, description="Weights' type; chosen from the machine when unset."
    )
    tool_parser: str | None = Field(
        None, description="vLLM's tool-call parser; chosen from the model's family when unset."
    )
    engine_url: Annotated[list[str], NoDecode] = Field(
        default_factory=list, description="Attach to this engine instead of starting one."
    )
    engine_port: int = Field(
        0, ge=0, le=65535, description="Port of the started engine; 0 picks one."
    )
    engine_args: Annotated[list[str], NoDecode] = Field(
        default_factory=list, description="Further vLLM flags, passed on as they are."
    )
    max_in_flight: int = Field(
        256, ge=1, description="Most calls in flight; beyond it, or a worker's share of it, 503."
    )
    registry_poll_s: float = Field(
        1.0, gt=0, description="How often the registry is asked for news."
    )
    undo_s: float = Field(
        7 * 24 * 3600,
        ge=0,
        le=10 * 365 * 24 * 3600,
        description="How long a tenant's deletion can be undone, in seconds.",
    )
    gc_grace_s: float = Field(
        3600,
        ge=0,
        le=10 * 365 * 24 * 3600,
        description="How long adapter files stay that no version uses any more, in seconds; longer"
        " than a call can last.",
    )
    gc_every_s: float = Field(
        3600, gt=0, description="How often files that no version uses are looked for, in seconds."
    )
    log_level: str = Field("info", description="debug, info, warning or error.")
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()

    @field_validator("max_lora_rank")
    @classmethod
    def _rank_is_one_of_vllms(cls, rank: int) -> int:
        allowed = (1, 8, 16, 32, 64, 128, 256, 320, 512)
        if rank not in allowed:
            raise ValueError(f"must be one of {', '.join(map(str, allowed))}")
        return rank

    @field_validator("engine_url", "engine_args", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        """From the environment a list is a string of words, quoted as a shell's."""
        return shlex.split(value) if isinstance(value, str) else value

    @field_validator("artifacts_url")
    @classmethod
    def _bucket(cls, url: str | None) -> str | None:
        if url is not None:
            parse_place(url)
        return url

    @field_validator("s3_endpoint")
    @classmethod
    def _http(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("http://", "https://")):
            raise ValueError("must be a URL with http:// or https://")
        return url

    @field_validator("engine_url")
    @classmethod
    def _one_engine(cls, urls: list[str]) -> list[str]:
        if len(urls) > 1:
            raise ValueError("one engine is supported by this release")
        return [url.rstrip("/") for url in urls]

    @field_validator("data_dir", "cache_dir")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        return path.expanduser().resolve()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings

    @property
    def sqlalchemy_url(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.data_dir / 'registry.db'}"

    @property
    def artifacts_dir(self) -> Path:
        """Where adapter files lie."""
        return self.data_dir / "artifacts"

    @property
    def staging_dir(self) -> Path:
        """Where uploads lie until they are checked; emptied at start."""
        return self.data_dir / "staging"

    @property
    def admin_key_file(self) -> Path:
        """Where a made admin key is kept, mode 0600."""
        return self.data_dir / "admin.key"


class SettingsError(Exception):
    """A setting that cannot be used; the message names it and the fix."""


def load_settings(flags: dict[str, Any], file: Path | None = None) -> Settings:
    """The settings from flags (those not None), the environment and a YAML file, in that order.

    Raises SettingsError with one line a problem.
    """
    data = _read_file(file) if file else {}

    class WithFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, data)

    try:
        found = WithFile(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None
    return Settings.model_construct(
        **{name: getattr(found, name) for name in Settings.model_fields}
    )


def _read_file(file: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(file.read_text())
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{file}: not YAML: {error}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise SettingsError(f"{file}: must hold `setting: value` lines")
    return data


def _explain(error: ValidationError) -> str:
    known = list(Settings.model_fields)
    lines = []
    for problem in error.errors(include_url=False):
        name = ".".join(map(str, problem["loc"]))
        text = f"{name}: {problem['msg']}"
        if problem["type"] == "extra_forbidden":
            text = f"{name}: no such setting"
            if close := difflib.get_close_matches(name, known, n=1):
                text += f"; did you mean {close[0]}?"
        lines.append(text)
    return "\n".join(lines)
