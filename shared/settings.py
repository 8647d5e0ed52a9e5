"""Settings of a process, read from ``FOREBAY_…`` environment variables.

What an operator tunes per deployment lives here; what the product decides (tiers, thresholds, categories) lives in
the policy file. ``forebay settings`` prints this page as a table, so every field says what it is and in which unit.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    AmqpDsn,
    Field,
    HttpUrl,
    PositiveFloat,
    PositiveInt,
    PostgresDsn,
    SecretStr,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import InvalidSettings

PREFIX = "FOREBAY_"
POLICY_IN_PACKAGE = "infra/policy.toml"
Port = Annotated[int, Field(ge=0, le=65535)]


def _address(kind: type[AmqpDsn] | type[PostgresDsn] | type[HttpUrl]) -> AfterValidator:
    """Text that must be an address of some kind, and stays the text it is."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def check(text: str) -> str:
        adapter.validate_python(text)
        return text

    return AfterValidator(check)


Seconds = Annotated[PositiveFloat, Field(allow_inf_nan=False)]
AmqpAddress = Annotated[str, _address(AmqpDsn)]
PostgresAddress = Annotated[str, _address(PostgresDsn)]
HttpAddress = Annotated[str, _address(HttpUrl)]


def packaged_policy() -> Path:
    """The policy file that ships with the project."""
    spec = find_spec("infra")
    root = Path(next(iter(cast("list[str]", spec.submodule_search_locations)))) if spec else Path("infra")
    return root / "policy.toml"


class Settings(BaseSettings):
    """All settings of all services; a service reads the ones it needs."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    # Where the others are
    amqp_url: AmqpAddress = Field(
        "amqp://guest:guest@127.0.0.1:5672/", description="RabbitMQ, with the virtual host as path"
    )
    postgres_dsn: PostgresAddress = Field(
        "postgresql://postgres@127.0.0.1:5432/forebay", description="PostgreSQL with pgvector"
    )
    policy_file: Path = Field(default_factory=packaged_policy, description="the policy: tiers, thresholds, categories")
    local_model_url: HttpAddress = Field(
        "http://127.0.0.1:8090/v1", description="OpenAI-compatible server behind models named local/…"
    )

    # This process
    http_host: str = Field("127.0.0.1", description="address this service's HTTP listens on (API, probes, metrics)")
    http_port: Port = Field(8080, description="port of the same; 0 takes a free one")
    log_format: Literal["auto", "json", "console"] = Field("auto", description="auto: console on a terminal, else JSON")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is written")
    shutdown_s: Seconds = Field(20.0, description="seconds a service may take to finish its work on SIGTERM")

    # Messaging
    prefetch: PositiveInt = Field(200, description="messages a consumer holds unacknowledged")
    publish_timeout_s: Seconds = Field(10.0, description="seconds to wait for the broker's confirm of a publish")
    delivery_limit: PositiveInt = Field(20, description="redeliveries of a message before it is dead-lettered")

    # ingest
    id_secret: SecretStr = Field(
        SecretStr("forebay-development-only"),
        min_length=16,
        description="key that signs request ids; the same for all replicas of ingest, and secret",
    )
    max_body_bytes: PositiveInt = Field(524_288, description="bytes a request body may have at either door")
    max_wait_s: Seconds = Field(60.0, description="seconds at most that Prefer: wait=N is honoured for")
    recent_results: PositiveInt = Field(10_000, description="results a replica of ingest keeps at hand in memory")

    # inference
    inference_concurrency: PositiveInt = Field(8, description="provider calls one replica has under way, per tier")
    shadow_concurrency: PositiveInt = Field(
        1, description="provider calls nobody waits for (audits, refreshes) that one replica has under way"
    )

    # cache
    embeddings_url: HttpAddress = Field(
        "http://127.0.0.1:8080", description="inference's HTTP address, for embeddings of a model that is not built in"
    )
    embeddings_timeout_s: Seconds = Field(5.0, description="seconds an embedding from there may take")

    # persistence
    tick_ms: PositiveInt = Field(100, description="milliseconds between write transactions at the least")
    rest_ms: PositiveInt = Field(
        2000, description="milliseconds between write transactions while less than a full one waits"
    )
    tick_rows: PositiveInt = Field(500, description="events written in one transaction at the most")
    tick_entries: PositiveInt = Field(
        32, description="cache entries written in one transaction at the most (indexing a vector takes milliseconds)"
    )
    tick_bytes: PositiveInt = Field(
        8_388_608, description="bytes of messages of one queue after which a transaction takes no more"
    )

    # database
    pool_size: PositiveInt = Field(4, description="connections to PostgreSQL one process holds at the most")

    @classmethod
    def table(cls) -> Iterator[tuple[str, str, str]]:
        """Name, default and meaning of each setting."""
        for name, field in cls.model_fields.items():
            default = field.get_default(call_default_factory=True, validated_data={})
            shown = POLICY_IN_PACKAGE if name == "policy_file" else str(default)
            yield name, shown, field.description or ""


def load() -> Settings:
    """Read the environment.

    Raises:
        InvalidSettings: naming each variable that is wrong and what it must be.
    """
    try:
        return Settings()
    except ValidationError as error:
        faults = [f"{PREFIX}{str(e['loc'][0]).upper()}: {e['msg']}{_got(e)}" for e in error.errors()]
        raise InvalidSettings("; ".join(faults)) from None


def _got(fault: ErrorDetails) -> str:
    """The value that is wrong, unless it may hold a password."""
    secret = fault["loc"][0] in ("id_secret", "amqp_url", "postgres_dsn")
    return "" if secret else f" (got {fault['input']!r})"
