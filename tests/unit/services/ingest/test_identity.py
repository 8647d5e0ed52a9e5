"""Ids that prove their origin."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from services.ingest.identity import Identities
from tests.support.clock import START

IDENTITIES = Identities("a secret")
tenants = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # timezones=
material = st.lists(st.binary(max_size=40), min_size=1, max_size=3)


@given(tenants, moments)
def test_a_new_id_is_ours_and_of_version_7(tenant: str, now: datetime) -> None:
    made = IDENTITIES.new(tenant, now)
    assert IDENTITIES.ours(tenant, made)
    assert made.version == 7
    assert made.variant == "specified in RFC 4122"


@given(tenants, material)
def test_a_derived_id_is_ours_always_the_same_and_marked(tenant: str, parts: list[bytes]) -> None:
    made = IDENTITIES.derived(tenant, *parts)
    assert made == Identities("a secret").derived(tenant, *parts)
    assert IDENTITIES.ours(tenant, made)
    assert made.version == 8
    assert str(made).startswith("f")


@given(tenants, moments, st.integers(1, 10**9))
def test_ids_of_later_milliseconds_are_greater(tenant: str, now: datetime, later_ms: int) -> None:
    assert IDENTITIES.new(tenant, now) < IDENTITIES.new(tenant, now + timedelta(milliseconds=later_ms))


@given(tenants, moments, material)
def test_derived_ids_are_apart_from_new_ones(tenant: str, now: datetime, parts: list[bytes]) -> None:
    assert IDENTITIES.new(tenant, now) < UUID("f0000000-0000-0000-0000-000000000000")
    assert IDENTITIES.derived(tenant, *parts) >= UUID("f0000000-0000-0000-0000-000000000000")


@given(tenants, tenants, material, material)
def test_other_tenants_and_other_material_give_other_ids(
    tenant: str, other: str, parts: list[bytes], others: list[bytes]
) -> None:
    same = (tenant, b"\0".join(parts)) == (other, b"\0".join(others))
    assert (IDENTITIES.derived(tenant, *parts) == IDENTITIES.derived(other, *others)) == same


def test_a_new_id_is_new_even_within_a_millisecond() -> None:
    assert len({IDENTITIES.new("acme", START) for _ in range(1000)}) == 1000


def test_ids_of_another_tenant_or_another_secret_are_not_ours() -> None:
    made = [IDENTITIES.new("acme", START) for _ in range(100)]
    assert not any(IDENTITIES.ours("other", one) for one in made)
    assert not any(Identities("another").ours("acme", one) for one in made)


@given(st.integers(0, 127))
def test_a_changed_bit_is_noticed(bit: int) -> None:
    made = IDENTITIES.derived("acme", b"key")
    assert not IDENTITIES.ours("acme", UUID(int=made.int ^ (1 << bit)))


@given(st.integers(0, 2**128 - 1))
def test_whatever_is_asked_is_answered(number: int) -> None:
    assert IDENTITIES.ours("acme", UUID(int=number)) in (True, False)
