"""What must hold before an engine takes a tenant's request."""

import json
import secrets
from dataclasses import dataclass

from gateway.upstream import Header, Upstream, UpstreamError

_JSON: Header = (b"content-type", b"application/json")
_TIMEOUT_S = 30.0
_SMALL_BODY = 8 * 2**20


class EngineRefused(Exception):
    """The engine is reachable and must not be used; the message says why and what to change."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What the engine said of itself."""

    adapters: frozenset[str]
    """Names of the adapters it holds."""


async def admit(upstream: Upstream, base_name: str) -> Admission:
    """Asks the engine what it serves and whether it keeps names apart.

    Raises EngineRefused, or UpstreamError where it did not answer.
    """
    models = await _models(upstream)
    bases = [name for name, parent in models.items() if parent is None]
    if base_name not in bases:
        raise EngineRefused(
            f"it does not serve `{base_name}` but {', '.join(f'`{name}`' for name in bases)}; "
            "set --served-name to the name it has"
        )
    await _check_unknown_names(upstream)
    await _check_runtime_loading(upstream)
    return Admission(frozenset(models) - frozenset(bases))


async def _models(upstream: Upstream) -> dict[str, str | None]:
    status, body = await _call(upstream, b"GET", b"/v1/models", None)
    try:
        return {card["id"]: card.get("parent") for card in json.loads(body)["data"]}
    except (ValueError, KeyError, TypeError):
        raise EngineRefused(f"its /v1/models answered {status}, and no list of models") from None


async def _check_unknown_names(upstream: Upstream) -> None:
    """VLLM_SKIP_MODEL_NAME_VALIDATION makes an unknown adapter answer as the base model."""
    body = {
        "model": f"loraplex-no-such-model-{secrets.token_hex(8)}",
        "prompt": "x",
        "max_tokens": 1,
    }
    status, _ = await _call(upstream, b"POST", b"/v1/completions", body)
    if status < 400:
        raise EngineRefused(
            "it answers for a model name that does not exist, so a missing adapter would be "
            "answered by the base model; start it without VLLM_SKIP_MODEL_NAME_VALIDATION"
        )


async def _check_runtime_loading(upstream: Upstream) -> None:
    """An empty name is a 400 where the route exists, and changes nothing."""
    status, _ = await _call(
        upstream, b"POST", b"/v1/load_lora_adapter", {"lora_name": "", "lora_path": ""}
    )
    if status in (404, 405):
        raise EngineRefused(
            "it cannot load adapters while it runs; start it with --enable-lora and "
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"
        )


async def _call(
    upstream: Upstream, method: bytes, path: bytes, body: dict[str, object] | None
) -> tuple[int, bytes]:
    raw = b"" if body is None else json.dumps(body).encode()
    response = await upstream.open(
        method, path, headers=[_JSON] if raw else [], body=raw, first_byte_s=_TIMEOUT_S
    )
    with response:
        text = await response.read(_TIMEOUT_S, _SMALL_BODY)
    if response.status >= 500:
        raise UpstreamError(f"{path.decode()} answered {response.status}")
    return response.status, text
