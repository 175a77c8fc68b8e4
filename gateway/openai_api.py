"""The /v1 routes: where the API is described. What serves them is `inference.Inference`."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from gateway.access import request_record
from gateway.auth import Caller, inference_caller
from gateway.errors import BadRequest, NotFound
from gateway.feedback import FeedbackIn
from gateway.inference import InferenceResponse
from gateway.metrics import Subject
from gateway.model_list import list_models, retrieve_model
from gateway.parts import Parts
from gateway.request_body import read_json
from gateway.routes import Route

router = APIRouter(tags=["inference"])


def _counted(route: Route) -> Callable[[Request], Awaitable[None]]:
    """A dependency that runs before authentication, so that refusals are counted by route."""

    async def count(request: Request) -> None:
        request_record(request.scope).route = route

    return count


async def _known_caller(
    request: Request, caller: Annotated[Caller, Depends(inference_caller)]
) -> Caller:
    record = request_record(request.scope)
    record.key_id, record.subject = caller.key_id, Subject(caller.tenant or "")
    return caller


TenantCaller = Annotated[Caller, Depends(_known_caller)]


def _serve(request: Request, caller: Caller, route: Route) -> Response:
    parts: Parts = request.app.state.parts
    return InferenceResponse(parts.inference, route, caller)


@router.post(Route.CHAT.path, dependencies=[Depends(_counted(Route.CHAT))])
async def chat_completions(request: Request, caller: TenantCaller) -> Response:
    """OpenAI's chat completions, streamed or plain."""
    return _serve(request, caller, Route.CHAT)


@router.post(Route.COMPLETIONS.path, dependencies=[Depends(_counted(Route.COMPLETIONS))])
async def completions(request: Request, caller: TenantCaller) -> Response:
    """OpenAI's completions, streamed or plain."""
    return _serve(request, caller, Route.COMPLETIONS)


@router.post(Route.RESPONSES.path, dependencies=[Depends(_counted(Route.RESPONSES))])
async def responses(request: Request, caller: TenantCaller) -> Response:
    """OpenAI's responses, streamed or plain; stateless."""
    return _serve(request, caller, Route.RESPONSES)


@router.post(Route.MESSAGES.path, dependencies=[Depends(_counted(Route.MESSAGES))])
async def messages(request: Request, caller: TenantCaller) -> Response:
    """Anthropic's messages, streamed or plain."""
    return _serve(request, caller, Route.MESSAGES)


@router.post(Route.COUNT_TOKENS.path, dependencies=[Depends(_counted(Route.COUNT_TOKENS))])
async def count_tokens(request: Request, caller: TenantCaller) -> Response:
    """Anthropic's token count."""
    return _serve(request, caller, Route.COUNT_TOKENS)


@router.get("/v1/models")
async def models(request: Request, caller: TenantCaller) -> JSONResponse:
    """The models that this key may call."""
    parts: Parts = request.app.state.parts
    assert caller.tenant is not None
    return JSONResponse(
        list_models(parts.snapshots.current, caller.tenant, parts.base_name, parts.started_at)
    )


@router.get("/v1/models/{model:path}")
async def model(model: str, request: Request, caller: TenantCaller) -> JSONResponse:
    """One model; its id may hold `/`."""
    parts: Parts = request.app.state.parts
    assert caller.tenant is not None
    return JSONResponse(
        retrieve_model(
            parts.snapshots.current, caller.tenant, model, parts.base_name, parts.started_at
        )
    )


@router.post("/v1/feedback", status_code=202)
async def feedback(request: Request, caller: TenantCaller) -> dict[str, Any]:
    """What a user thought of an answer of this tenant, -1 to 1."""
    parts: Parts = request.app.state.parts
    settings = parts.settings
    body = await read_json(
        request,
        FeedbackIn,
        limit_bytes=settings.limits.body_bytes,
        idle_s=settings.timeouts.body_s,
    )
    assert caller.tenant is not None
    subject = parts.completions.take(caller.tenant, body.completion_id)
    if subject is None:
        raise NotFound(
            "No recent completion of this tenant has that id, or it was rated already.",
            param="completion_id",
        )
    parts.metrics.observe_feedback(Subject(*subject), body.score)
    return {"completion_id": body.completion_id, "accepted": True}


@router.post("/v1/embeddings")
async def embeddings(caller: TenantCaller) -> Response:
    """Refused: the engine generates only."""
    raise BadRequest(
        "The engine generates text and makes no embeddings.", param="model", code="not_supported"
    )


@router.api_route("/v1/responses/{response_id:path}", methods=["GET", "DELETE", "POST"])
async def stored_response(response_id: str, caller: TenantCaller) -> Response:
    """Refused: no response is stored."""
    raise NotFound(
        "Responses are stateless here and none is stored; send the whole conversation as `input`.",
        param="response_id",
        code="responses_are_stateless",
    )
