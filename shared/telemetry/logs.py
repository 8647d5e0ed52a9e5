"""Structured logs: JSON lines, or colours on a terminal; request id, tenant and trace id are bound where known."""

import logging
import sys
from typing import Literal

import structlog


def configure(service: str, *, form: Literal["auto", "json", "console"] = "auto", level: str = "info") -> None:
    """Set up structlog for this process, and route the standard library's logging through it."""
    pretty = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if not pretty:  # the console renderer draws tracebacks itself
        shared.append(structlog.processors.format_exc_info)
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        # Below the level nothing is put together: a line a message at debug cost more than the acknowledgement.
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # Client libraries tell at info, and aiormq at warning with a traceback, what our own lines say in one.
    for chatty in ("aio_pika", "aiormq", "httpx", "uvicorn.access"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(service=service)
