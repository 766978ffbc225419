"""What is no HTTP, or no more of it: refused in the same form as all else."""

import secrets
from http import HTTPStatus

import structlog
from aiohttp import web

from services.gateway import problem
from services.gateway.problem import INTERNAL, MALFORMED, Problem
from services.gateway.reply import HARDENING

logger = structlog.get_logger(__name__)


class Protocol(web.RequestHandler):
    """The server's side of a connection; anybody can make it fail, so it tells that in a line."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 400,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what the parser cannot read, and hang up: where the next one begins is unknown."""
        del message
        request_id = secrets.token_hex(16)
        told = {"remote": request.remote, "request_id": request_id, "reason": type(exc).__name__}
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            logger.info("no request", **told)
            refusal = Problem(MALFORMED, "This is not HTTP.")
        else:
            logger.error("a request failed", exc_info=exc, **told)
            refusal = Problem(INTERNAL)
        response = web.Response(
            body=problem.document(refusal, request.rel_url.raw_path, request_id),
            status=refusal.kind.status,
            headers={"X-Request-ID": request_id, **HARDENING},
            content_type=problem.CONTENT_TYPE,
        )
        response.force_close()
        return response

    def log_exception(self, *args: object, **more: object) -> None:
        """Tell that a connection failed: mostly since its body could not be read to the end."""
        error = more.get("exc_info")
        logger.info("a connection failed", reason=type(error).__name__, what=str(args[0]))
