"""Liveness and readiness."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from gateway.engine import EngineState
from gateway.parts import Parts

router = APIRouter(tags=["operations"])


@router.get("/livez")
async def livez() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """Requests are served: the engine is up with its adapters back, and no shutdown has begun."""
    reason = _not_ready(request.app.state.parts)
    if reason is None:
        return JSONResponse({"status": "ready"})
    return JSONResponse({"status": "not_ready", "reason": reason}, status_code=503)


def _not_ready(parts: Parts) -> str | None:
    if parts.draining:
        return "shutting down"
    if parts.engine.state is not EngineState.UP:
        return f"engine {parts.engine.state.value}: {parts.engine.reason}"
    return None
