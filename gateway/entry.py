"""Where a relayed request comes in: its record, its key, its answer or its error, its one end."""

import asyncio
import json

from gateway.access import SHUTDOWN, AccessLog, RequestRecord
from gateway.auth import Caller, admit_inference, authenticate, presented_key
from gateway.client import Client
from gateway.error_handlers import error_body, log_bug, translate
from gateway.errors import GatewayError, ShuttingDown
from gateway.inference import Exchange
from gateway.metrics import Subject
from gateway.parts import Parts
from gateway.routes import Route


class Entry:
    """Serves the requests of one route: `await entry(client)` is a request from end to end."""

    def __init__(self, route: Route, parts: Parts, access: AccessLog) -> None:
        self._route = route
        self._parts = parts
        self._access = access

    async def __call__(self, client: Client) -> None:
        """Answers, whatever happens; raises only CancelledError, at the gateway's own end."""
        record = self._access.begin("POST")
        record.route, record.path_template = self._route, self._route.path
        try:
            caller = self._caller(client, record)
            record.key_id, record.subject = caller.key_id, Subject(caller.tenant or "")
            exchange = Exchange(self._route, caller, record, client)
            await self._parts.inference.serve(exchange)
        except asyncio.CancelledError:
            if client.started:
                record.final_status, record.error_code = SHUTDOWN, ShuttingDown.default_code
            else:
                self._fail(ShuttingDown("The gateway is shutting down."), client, record)
            raise
        except Exception as error:
            self._fail(error, client, record)
        finally:
            self._access.end(record)

    def _caller(self, client: Client, record: RequestRecord) -> Caller:
        parts = self._parts
        key = presented_key(client.headers)
        caller = authenticate(key, parts.admin_key_sha256, parts.snapshots.current)
        parts.key_use.noted[caller.key_id] = record.arrived_at
        return admit_inference(caller)

    def _fail(self, error: Exception, client: Client, record: RequestRecord) -> None:
        if not isinstance(error, GatewayError):
            log_bug(error, "POST", self._route.path, record.request_id)
        if client.started:
            record.final_status = GatewayError.status
            client.abort()  # An answer without an end.
            return
        answer = translate(error)
        record.error_code, record.sent_status = answer.code, answer.status
        lines = [("content-type", "application/json"), ("x-request-id", record.request_id)]
        head = "".join(
            f"{name}: {value}\r\n" for name, value in [*lines, *answer.headers().items()]
        )
        body = error_body(answer, self._route.path, record.request_id)
        client.answer(head.encode("latin-1"), json.dumps(body).encode(), answer.status)
