"""The policy file and its mistakes."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidPolicy
from shared.policy import load_policy, parse_policy
from shared.policy.section import seconds
from shared.settings import packaged_policy
from tests.support import make
from tests.support.clock import START
from tests.support.routers import LADDER


def test_the_policy_that_ships_is_valid() -> None:
    shipped = load_policy(packaged_policy())
    assert shipped.router.default in shipped.tiers
    assert shipped.freshness.categories[shipped.freshness.default].ttl > 0


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("surprise", 1, "surprise"),
        ("tiers__light__colour", "red", r"tiers\.light\.colour"),
        ("tiers__light__model", "", r"tiers\.light\.model"),
        ("tiers__light__attempts", 0, r"tiers\.light\.attempts"),
        ("tiers__light__timeout_s", -1, r"tiers\.light\.timeout_s"),
        ("tiers__light__fall_back", "light", r"tiers\.light\.fall_back"),
        ("tiers__premium__cascade", {}, r"tiers\.premium\.cascade\.first"),
        ("tiers__premium__cascade", {"first": []}, r"tiers\.premium\.cascade\.first"),
        ("tiers__premium__cascade", {"first": "premium"}, r"tiers\.premium\.cascade\.first"),
        ("tiers__premium__cascade", {"first": ["light", "tiny"]}, r"tiers\.premium\.cascade\.first"),
        ("tiers__premium__cascade", {"first": ["light", "light"]}, r"tiers\.premium\.cascade: first"),
        ("tiers__premium__cascade", {"first": "light", "check": "xml"}, r"tiers\.premium\.cascade\.check"),
        ("tiers__premium__cascade", {"first": "light", "check": "a.b"}, r"tiers\.premium\.cascade\.check"),
        ("tiers__premium__cascade", {"first": "light", "check": "a:1b"}, r"tiers\.premium\.cascade\.check"),
        ("tiers__premium__cascade", {"first": "light", "answers": 1}, r"tiers\.premium\.cascade: answers"),
        ("tiers__premium__cascade", {"first": "light", "answers": 10}, r"tiers\.premium\.cascade\.answers"),
        ("tiers__premium__cascade", {"first": "light", "check": "json", "answers": 2}, r"tiers\.premium\.cascade"),
        ("tiers__premium__cascade", {"first": "light", "temperature": 0}, r"tiers\.premium\.cascade\.temperature"),
        ("tiers__Light One", {"model": "x"}, r"tiers\.Light One"),
        ("tiers__cache", {"model": "x"}, r"tiers\.cache"),
        ("tiers__coalesced", {"model": "x"}, r"tiers\.coalesced"),
        ("tiers__auto", {"model": "x"}, r"tiers\.auto"),
        ("tiers", {}, "tiers"),
        ("tiers__light", {}, r"tiers\.light\.model"),
        ("tiers__light", {"lanes": []}, r"tiers\.light: lanes"),
        ("tiers__light", {"lanes": "x"}, r"tiers\.light: lanes"),
        ("tiers__light", {"lanes": {"model": "x"}}, r"tiers\.light: lanes"),
        ("tiers__light", {"lanes": ["x"]}, r"tiers\.light\.lanes\.0"),
        ("tiers__light", {"lanes": [{"name": "a"}]}, r"tiers\.light\.lanes\.0\.model"),
        ("tiers__light", {"lanes": [{"model": "x", "colour": 1}]}, r"tiers\.light\.lanes\.0\.colour"),
        ("tiers__light", {"lanes": [{"model": "x", "weight": 0}]}, r"tiers\.light\.lanes\.0\.weight"),
        ("tiers__light", {"lanes": [{"model": "x", "order": -1}]}, r"tiers\.light\.lanes\.0\.order"),
        ("tiers__light", {"lanes": [{"model": "x", "concurrency": 0}]}, r"tiers\.light\.lanes\.0\.concurrency"),
        ("tiers__light", {"lanes": [{"model": "x"}, {"model": "x"}]}, r"tiers\.light: lanes"),
        ("tiers__light", {"model": "x", "fall_back": "light"}, r"tiers\.light\.fall_back"),
        ("tiers__light", {"model": "x", "fall_back": "nobody"}, r"tiers\.light\.fall_back"),
        ("tiers__light", {"lanes": [{"name": "local/large", "model": "x"}]}, "tiers"),
        ("prices__free", {"input": -1, "output": 0}, r"prices\.free\.input"),
        ("prices__half", {"input": 1}, r"prices\.half\.output"),
        ("router__default", "tiny", "router: default"),
        ("router__ladder", ["light", "tiny"], r"router: thresholds\.premium"),
        ("router__ladder", ["light", "light"], "router: ladder"),
        ("router__ladder", [], r"router\.ladder"),
        ("router__thresholds", {}, r"router: thresholds\.premium"),
        ("router__thresholds", {"premium": 1, "light": 0}, r"router: thresholds\.light"),
        ("router__shares", {"light": 0.5}, r"router: shares\.light"),
        ("router__shares", {"premium": 0.5, "tiny": 0.1}, r"router: shares\.tiny"),
        ("router__shares", {"premium": "25%"}, r"router\.shares\.premium"),
        ("router__shares", {"premium": True}, r"router\.shares\.premium"),
        ("router__shares", {"premium": float("nan")}, r"router\.shares\.premium"),
        ("cache__audit", {"share": -0.1}, r"cache\.audit\.share"),
        ("router__shares", {"premium": 1.5}, r"router\.shares\.premium"),
        ("router__usd_per_day", 0, r"router\.usd_per_day"),
        ("router__tenants", {"acme": {"shares": {"tiny": 0.5}}}, r"router\.tenants\.acme\.shares\.tiny"),
        ("router__tenants", {"acme": {"shares": {"light": 0.5}}}, r"router: tenants\.acme\.shares"),
        ("router__tenants", {"acme": {"over": "error"}}, r"router\.tenants\.acme: no limit"),
        ("router__tenants", {"acme": {"over": "ignore"}}, r"router\.tenants\.acme\.over"),
        ("router__weights__shrot", 1.0, r"router\.weights\.shrot"),
        ("router__length__short", 0, r"router\.length\.short"),
        ("cache__threshold", 1.5, r"cache\.threshold"),
        ("cache__never", {"personal": [" "]}, r"cache\.never\.personal\.0"),
        ("freshness__categories__dynamic__words", [""], r"freshness\.categories\.dynamic\.words\.0"),
        ("cache__candidates", 0, r"cache\.candidates"),
        ("freshness__default", "eternal", r"freshness\.default"),
        ("freshness__not_english", "eternal", r"freshness\.not_english"),
        ("freshness__tenants", {"acme": {"not_english": "x"}}, r"freshness\.tenants\.acme\.not_english"),
        ("freshness__categories__dynamic__ttl", "a while", r"freshness\.categories\.dynamic\.ttl"),
        ("freshness__categories__dynamic__ttl", "0m", r"freshness\.categories\.dynamic\.ttl"),
        ("freshness__categories__dynamic__ttl", 0, r"freshness\.categories\.dynamic\.ttl"),
        ("freshness__categories__dynamic__words", "today", r"freshness\.categories\.dynamic\.words"),
    ],
)
def test_every_mistake_names_its_key(path: str, value: object, named: str) -> None:
    with pytest.raises(InvalidPolicy, match=rf"(^|; ){named}: \S"):
        parse_policy(make.policy_data(**{path: value}))


def test_all_mistakes_are_named_at_once() -> None:
    data = make.policy_data(cache__threshold=2, tiers__light__attempts=0)
    with pytest.raises(InvalidPolicy) as raised:
        parse_policy(data)
    assert "cache.threshold" in str(raised.value)
    assert "tiers.light.attempts" in str(raised.value)


def test_a_missing_table_is_named() -> None:
    data = make.policy_data()
    del data["router"]
    with pytest.raises(InvalidPolicy, match="router: Field required"):
        parse_policy(data)


def test_a_missing_file_says_which_and_what_named_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidPolicy, match=r"none\.toml: No such file or directory$"):
        load_policy(tmp_path / "none.toml")
    with pytest.raises(InvalidPolicy, match=r"none\.toml: No such file.*, named by router\.shadow$"):
        load_policy(tmp_path / "none.toml", named_by="router.shadow")


def test_a_share_that_is_none_says_how_one_is_written() -> None:
    with pytest.raises(InvalidPolicy, match=r"premium: 25 is not from 0 to 1: for 25 % write 0\.25"):
        parse_policy(make.policy_data(router__shares={"premium": 25}))


def test_shares_of_more_than_all_name_each() -> None:
    with pytest.raises(InvalidPolicy, match=r"router: shares: middle 0\.7, premium 0\.5: together 1\.2"):
        parse_policy(make.policy_data(**LADDER, router__shares={"middle": 0.7, "premium": 0.5}))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("freshness__categories__dynamic__ttl", "never"),
        ("freshness__tenants", {"acme": {"ttl": {"dynamic": "never"}}}),
    ],
)
def test_a_time_to_live_of_never_is_told_how_to_be_written(path: str, value: object) -> None:
    with pytest.raises(InvalidPolicy, match=r"'never' is no duration.*never kept write \"none\""):
        parse_policy(make.policy_data(**{path: value}))


@pytest.mark.parametrize("content", [b"tiers = [", b"\xff\xfe", b"[cache]\nthreshold = 0.9\n"])
def test_a_file_that_is_no_policy_is_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_bytes(content)
    with pytest.raises(InvalidPolicy, match=r"policy\.toml: "):
        load_policy(file)


@given(st.integers(0, 10**6), st.sampled_from("smhd"), st.sampled_from(["", " "]))
def test_a_duration_is_its_number_times_its_unit(number: int, unit: str, space: str) -> None:
    assert seconds(f"{number}{space}{unit}") == number * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[unit]


@given(st.text())
def test_text_is_a_duration_or_says_how_one_looks(text: str) -> None:
    try:
        value = seconds(text)
    except ValueError as error:
        assert "15m" in str(error)  # noqa: PT017  # most texts are none, but not all
    else:
        assert isinstance(value, int)
        assert value >= 0


@given(st.integers())
def test_a_number_is_that_many_seconds(number: int) -> None:
    assert seconds(number) == number


def test_a_request_may_name_a_tier_a_model_or_neither() -> None:
    policy = make.policy()
    assert policy.tier_of("auto") is None
    assert policy.tier_of("premium") == "premium"
    assert policy.tier_of("local/large") == "premium"
    assert policy.tier_of("large") == "premium"
    with pytest.raises(KeyError):
        policy.tier_of("huge")


def test_the_price_is_that_of_the_model_a_tier_stands_for() -> None:
    policy = make.policy(tiers__light__price_as="gpt-4o-mini")
    assert policy.tiers["light"].priced_model == "gpt-4o-mini"
    assert policy.tiers["premium"].priced_model == "local/large"


@pytest.mark.parametrize(
    ("cascade", "first", "answers", "samples"),
    [
        ({"first": "light"}, ("light",), 2, True),
        ({"first": "light", "answers": 3}, ("light",), 3, True),
        ({"first": ["light", "other"]}, ("light", "other"), 2, False),
        ({"first": ["light", "other", "third"]}, ("light", "other", "third"), 3, False),
        ({"first": ["light", "other"], "answers": 3}, ("light", "other"), 3, True),
        ({"first": "light", "check": "json"}, ("light",), 1, False),
        ({"first": "light", "check": "acme.checks:Invoice.valid"}, ("light",), 1, False),
    ],
)
def test_a_cascade_asks_as_often_as_its_check_takes(
    cascade: dict[str, object], first: tuple[str, ...], answers: int, samples: bool
) -> None:
    others = {"tiers__other": {"model": "x"}, "tiers__third": {"model": "y"}}
    terms = make.policy(**others, tiers__premium__cascade=cascade).tiers["premium"].cascade
    assert terms is not None
    assert (terms.first, terms.answers, terms.samples) == (first, answers, samples)


@pytest.mark.parametrize("path", ["router__threshold", "router__weights__code"])
def test_a_number_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(InvalidPolicy, match=path.rsplit("__", 1)[-1]):
        parse_policy(make.policy_data(**{path: float("nan")}))


def test_a_time_to_live_ends_before_the_calendar_does() -> None:
    with pytest.raises(InvalidPolicy, match="ttl"):
        parse_policy(make.policy_data(freshness__categories__static__ttl="99999999d"))


@pytest.mark.parametrize(
    ("embedder", "told"),
    [
        ({"model": "openai/text-embedding-3-small"}, "how many numbers a vector of openai/text-embedding-3-small has"),
        ({"model": "local/x", "dimensions": 4001}, "less than or equal to 4000"),
        ({"model": "local/x", "dimensions": 0}, "greater than or equal to 1"),
        ({"model": "builtin", "dimensions": 384}, "leave them out"),
        ({"model": ""}, "model"),
        ({"previous": ""}, "previous"),
        ({"url": "http://x"}, "url"),
    ],
)
def test_an_embedder_that_makes_no_sense_is_refused(embedder: dict[str, object], told: str) -> None:
    with pytest.raises(InvalidPolicy, match=told):
        parse_policy(make.policy_data(cache__embedder=embedder))


def test_the_built_in_embedder_is_the_default_and_costs_nothing() -> None:
    embedder = make.policy().cache.embedder
    assert (embedder.builtin, embedder.dimensions, embedder.bought) == (True, None, frozenset())


def test_what_is_bought_is_the_new_embedder_and_the_one_before_it() -> None:
    said = {"model": "local/new", "dimensions": 8, "previous": "openai/old"}
    assert make.policy(cache__embedder=said).cache.embedder.bought == {"local/new", "openai/old"}
    said["previous"] = "builtin"
    assert make.policy(cache__embedder=said).cache.embedder.bought == {"local/new"}


@pytest.mark.parametrize(
    ("trends", "message"),
    [
        (
            {"fast": "1h", "slow": "3h"},
            "trends: fast and slow: 3600 s and 10800 s; slow must be at least four times fast",
        ),
        ({"ratio": 1.5}, "trends: settle: 1.5 must be below ratio (1.5), or topics come and go"),
        ({"ratio": 0.5}, "trends.ratio: Input should be greater than 1"),
        (
            {"max_age": "soon"},
            "trends.max_age: 'soon' is no duration: write seconds as a number, or text such as '15m'",
        ),
        ({"fast": 0}, "trends.fast: Input should be greater than 0"),
        ({"max_topics": 10}, "trends.max_topics: Input should be greater than or equal to 100"),
        ({"prior": 0}, "trends.prior: Input should be greater than 0"),
        ({"floor": float("nan")}, "trends.floor: Input should be a finite number"),
        ({"maxage": "15m"}, "trends.maxage: Extra inputs are not permitted"),
    ],
    ids=repr,
)
def test_a_mistake_about_trends_is_named(trends: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidPolicy, match=re.escape(message)):
        parse_policy(make.policy_data(trends=trends))


def test_a_head_beside_the_policy_is_named_from_there(tmp_path: Path) -> None:
    shipped = packaged_policy().read_text(encoding="utf-8")
    (tmp_path / "policy.toml").write_text(f'{shipped}\n[router.head]\nfile = "heads/one.json"\n', encoding="utf-8")
    head = load_policy(tmp_path / "policy.toml").router.head
    assert head is not None
    assert head.file == tmp_path / "heads" / "one.json"


def test_an_absolute_path_of_a_head_stays(tmp_path: Path) -> None:
    head = make.policy(router__head={"file": str(tmp_path / "head.json")}).router.head
    assert head is not None
    assert head.file == tmp_path / "head.json"


def test_a_tier_with_one_lane_may_say_its_limits_beside_its_model() -> None:
    policy = make.policy(tiers__light__concurrency=3, tiers__light__requests_per_minute=60)
    (lane,) = policy.tiers["light"].lanes
    assert (lane.name, lane.concurrency, lane.requests_per_minute) == ("local/tiny", 3, 60)


def test_with_several_lanes_each_says_its_own() -> None:
    lanes = [{"model": "local/tiny"}, {"name": "other", "model": "local/tiny"}]
    with pytest.raises(InvalidPolicy, match=r"tiers\.light: concurrency: .* each of them"):
        make.policy(tiers__light={"lanes": lanes, "concurrency": 3})


def test_a_mistake_in_a_lane_is_told_once() -> None:
    with pytest.raises(InvalidPolicy) as raised:
        parse_policy(make.policy_data(tiers__light={"lanes": [{"name": "a"}]}))
    assert str(raised.value) == "tiers.light.lanes.0.model: Field required"


def test_a_model_alone_is_short_for_one_lane_of_that_name() -> None:
    tier = make.policy(tiers__light={"model": "x/y", "price_as": "z"}).tiers["light"]
    assert [(lane.name, lane.model, lane.priced_model) for lane in tier.lanes] == [("x/y", "x/y", "z")]


def test_a_tier_is_called_by_the_model_of_its_first_lane_and_by_any_of_its_lanes() -> None:
    lanes = [{"model": "x/late", "order": 1}, {"name": "here", "model": "x/first"}]
    policy = make.policy(tiers__light={"lanes": lanes, "fall_back": "premium"})
    assert policy.tiers["light"].model == "x/first"
    assert {policy.tier_of(name) for name in ("here", "x/first", "x/late")} == {"light"}


def test_one_lane_may_serve_two_tiers_at_a_place_and_price_of_its_own() -> None:
    policy = make.policy(
        tiers__light={"lanes": [{"name": "shared", "model": "x", "order": 1, "weight": 2.0, "price_as": "local/tiny"}]},
        tiers__premium={"lanes": [{"name": "shared", "model": "x"}]},
    )
    assert list(policy.lanes) == ["shared"]


@pytest.mark.parametrize(
    ("brownout", "message"),
    [
        (
            {"cheaper_tier": {"from": "1m"}, "shed_bulk": {"from": "30s"}},
            "brownout: shed_bulk.from: 30 s is less than that of cheaper_tier (60 s), which comes first",
        ),
        ({"cheaper_tier": {}}, "brownout.cheaper_tier.from: Field required"),
        ({"cheaper_tier": {"from": 0}}, "brownout.cheaper_tier.from: Input should be greater than 0"),
        ({"stale_answers": {"from": "10s"}}, "brownout.stale_answers.up_to: Field required"),
        ({"longer_deadline": {"from": "10s"}}, "brownout.longer_deadline.by: Field required"),
        ({"shed_bulk": {"from": "10s", "by": "5m"}}, "brownout.shed_bulk.by: Extra inputs are not permitted"),
        ({"settle": 1}, "brownout.settle: Input should be less than 1"),
        ({"dim_the_lights": {"from": "10s"}}, "brownout.dim_the_lights: Extra inputs are not permitted"),
    ],
)
def test_a_mistake_in_the_brownout_ladder_is_told_where_it_is(brownout: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidPolicy) as mistake:
        make.policy(brownout=brownout)
    assert str(mistake.value) == message


def test_without_a_ladder_no_step_is_ever_taken() -> None:
    assert make.policy().brownout.ages == {}


def test_an_entry_is_kept_for_as_long_as_it_may_be_served_at_all() -> None:
    stale = {"stale_answers": {"from": "30s", "up_to": "1h"}}
    for brownout, while_revalidate, kept in (({}, 60, 60), (stale, 60, 3600), (stale, 7200, 7200)):
        rules = make.policy(brownout=brownout, freshness__categories__static__stale_while_revalidate=while_revalidate)
        expires_at, keep_until = rules.lifetime(make.freshness(ttl_s=600), START)
        assert ((expires_at - START).total_seconds(), (keep_until - expires_at).total_seconds()) == (600, kept)
