"""The /v1 routes: where the API is described. `inference.Inference` serves those that generate."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from gateway.access import request_record
from gateway.auth import Caller, inference_caller
from gateway.errors import BadRequest, NotFound
from gateway.feedback import FeedbackIn
from gateway.metrics import Subject
from gateway.model_list import list_models, retrieve_model
from gateway.parts import Parts
from gateway.request_body import read_json
from gateway.routes import Route

router = APIRouter(tags=["inference"])


class RelayedRoute(APIRoute):
    """A route that is described here and served by the relay (`relayed_routes`).

    Only where the application runs under another server than `python -m gateway` is it matched.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] in (self.methods or ()):
            raise RuntimeError("inference is served by `python -m gateway` alone")
        await super().handle(scope, receive, send)


def relayed_routes(app: FastAPI) -> list[Route]:
    """The routes of `app` that its relay serves."""
    return [Route(route.name) for route in app.routes if isinstance(route, RelayedRoute)]


async def _known_caller(
    request: Request, caller: Annotated[Caller, Depends(inference_caller)]
) -> Caller:
    record = request_record(request.scope)
    record.key_id, record.subject = caller.key_id, Subject(caller.tenant or "")
    return caller


TenantCaller = Annotated[Caller, Depends(_known_caller)]


async def _relayed(caller: TenantCaller) -> Response:
    raise AssertionError("the relay serves these routes")


for _route, _text in (
    (Route.CHAT, "OpenAI's chat completions, streamed or plain."),
    (Route.COMPLETIONS, "OpenAI's completions, streamed or plain."),
    (Route.RESPONSES, "OpenAI's responses, streamed or plain; stateless."),
    (Route.MESSAGES, "Anthropic's messages, streamed or plain."),
    (Route.COUNT_TOKENS, "Anthropic's token count."),
):
    router.add_api_route(
        _route.path,
        _relayed,
        methods=["POST"],
        name=_route.value,
        description=_text,
        response_class=Response,
        route_class_override=RelayedRoute,
    )


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
    if subject is not None:
        parts.metrics.observe_feedback(subject, body.score)
    elif not await parts.siblings.take_feedback(
        request.headers.items(), body.model_dump_json().encode()
    ):
        raise NotFound(
            "No recent completion of this tenant has that id, or it was rated already.",
            param="completion_id",
        )
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
