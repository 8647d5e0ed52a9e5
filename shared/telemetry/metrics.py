"""The catalogue of metrics: every name, once. Labels are never a request, a user or a prompt."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

# Messaging, in every service
CONSUMED = Counter("forebay_messages_consumed", "Deliveries settled, by outcome", ["queue", "outcome"])
PUBLISHED = Counter(
    "forebay_messages_published", "Events handed to the broker; confirmed, where they are mandatory", ["type"]
)
PROCESSING = Histogram(
    "forebay_processing_seconds", "From taking a delivery to settling it", ["queue"], buckets=_SECONDS
)
UNSETTLED = Gauge("forebay_messages_unsettled", "Deliveries taken and not yet settled", ["queue"])
CONNECTED = Gauge("forebay_broker_connected", "1 while there is a connection to the broker")
BACKGROUND_FAILURES = Counter(
    "forebay_background_failures", "Times that work beside the requests failed and began anew", ["work"]
)
BLOCKED = Gauge("forebay_broker_blocked", "1 while the broker takes nothing from this process: an alarm")

# cache, router and inference
CANCELLED = Counter("forebay_requests_cancelled", "Requests ended because their clients need them no more")

# ingest
ADMITTED = Counter("forebay_requests_admitted", "Submissions accepted", ["door", "priority"])
REFUSED = Counter("forebay_requests_refused", "Submissions refused", ["door", "code"])
ACCEPT_SECONDS = Histogram("forebay_accept_seconds", "From reading a body to the broker's confirm", buckets=_SECONDS)
QUEUED = Gauge("forebay_requests_queued", "Requests that wait in the broker, as ingest saw it last")
UNWRITTEN = Gauge("forebay_events_unwritten", "Events that wait to be written to PostgreSQL, as ingest saw it last")
UNDER_WAY = Gauge("forebay_requests_under_way", "Requests this replica took and has not heard the end of")
EXPECTED_WAIT = Gauge("forebay_expected_wait_seconds", "What a request can expect that is taken now")
_ERRORS: Final = (-120, -30, -10, -5, -2, -1, -0.5, -0.1, 0.1, 0.5, 1, 2, 5, 10, 30, 120)
ESTIMATE_ERROR = Histogram(
    "forebay_estimate_error_seconds",
    "Estimated wait less the actual one, of answers that were bought and of the cache's",
    ["answer"],
    buckets=_ERRORS,
)
HELD_BACK = Counter("forebay_submissions_held_back", "Submissions at the AMQP door that have to wait", ["why"])

# cache
_QUICK = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05)
LOOKUPS = Counter("forebay_cache_lookups", "Requests seen by the cache, by result", ["result"])
EMBED_SECONDS = Histogram("forebay_cache_embed_seconds", "Embedding of one batch of prompts", buckets=_SECONDS)
SEARCH_SECONDS = Histogram("forebay_cache_search_seconds", "Search for one batch of prompts", buckets=_SECONDS)
VERIFY_SECONDS = Histogram("forebay_cache_verify_seconds", "Verification of one pair of prompts", buckets=_QUICK)
VETOES = Counter(
    "forebay_cache_vetoes", "Near entries and requests in flight that were verified and refused", ["reason"]
)
WAITING = Gauge("forebay_cache_waiting", "Requests waiting for the answer of one in flight")
AUDITS = Counter(
    "forebay_cache_audits",
    "Findings about entries, by kind and finding, counted where they are made: feedback by ingest",
    ["kind", "finding"],
)
UNCOMPARED = Counter("forebay_cache_uncompared", "Bought answers not compared with a near entry's: too many at once")
FALSE_HITS = Gauge(
    "forebay_cache_false_hit_rate", "Share of hits that were wrong, by audits, with its 95 % interval", ["bound"]
)
EXACT_ONLY = Gauge("forebay_cache_exact_only", "Tenants and pools not served by meaning: their bound is broken")
LEARNED_THRESHOLD = Gauge("forebay_cache_learned_threshold", "Least similarity served at average other evidence")
SHADOWS_OVER_BUDGET = Counter("forebay_cache_shadows_over_budget", "Shadow calls not asked for", ["purpose"])
UNEMBEDDED = Counter("forebay_cache_unembedded", "Prompts that could not be embedded: the embedder was away")
REEMBEDDED = Counter("forebay_cache_reembedded", "Entries embedded anew for another embedder")
REEMBEDDING_LEFT = Gauge("forebay_cache_reembedding_left", "Entries of the previous embedder not looked at yet")

# router
ROUTED = Counter("forebay_requests_routed", "Routing decisions", ["tier", "freshness"])
HEAD_LOADS = Counter("forebay_router_head_loads", "Files of the learned head taken up, or refused", ["outcome"])

ROUTER_SHARE = Gauge("forebay_router_share", "Share of requests that a tier is to have", ["tier"])
ROUTER_THRESHOLD = Gauge("forebay_router_threshold", "Score from which a tier begins", ["tier"])
ROUTER_SPENT = Gauge("forebay_router_spent_usd", "US dollars at list price that answers have cost today (UTC)")
ROUTER_CAPPED = Counter("forebay_router_capped", "Requests over their tenant's limits, by what became of them", ["end"])
TIERS_AVOIDED = Counter(
    "forebay_router_tiers_avoided", "Requests that another tier got, for this one is unwell", ["tier"]
)
ROUTER_SHADOW = Counter("forebay_router_shadow", "Decisions, and those of the policy tried out", ["tier", "shadow"])
ROUTER_SHADOW_COST = Counter(
    "forebay_router_shadow_cost_usd", "Expected cost of what was decided, and of what the other would have", ["policy"]
)

# the brownout ladder, wherever a step of it touches a request
QUEUE_AGE = Gauge(
    "forebay_queue_age_seconds", "How long what is started now had waited, as ingest tells everybody", ["tier"]
)
BROWNOUT_STEPS = Gauge("forebay_brownout_steps", "Steps of the brownout ladder that hold, 0 to 4", ["tier"])
BROWNOUTS = Counter("forebay_brownout_touched", "Requests that a step of the brownout ladder touched", ["step", "tier"])

# inference
CALLS = Counter("forebay_provider_calls", "Calls to a provider", ["tier", "lane", "outcome"])
CALL_SECONDS = Histogram(
    "forebay_provider_call_seconds", "Duration of a call that was answered", ["lane"], buckets=_SECONDS
)
COST = Counter("forebay_cost_usd", "US dollars at list price", ["tier", "lane"])
TOKENS = Counter("forebay_tokens", "Tokens as counted by the provider", ["tier", "direction"])
LANE_RATE = Gauge("forebay_lane_rate", "Calls per second of all replicas; 0 while no limit is known", ["lane"])
LANE_SHARE = Gauge("forebay_lane_share", "Part of a lane's rate that is this replica's", ["lane"])
LANE_UNDER_WAY = Gauge("forebay_lane_calls_under_way", "Calls of this replica", ["lane"])
LANE_WAITING = Gauge("forebay_lane_calls_waiting", "Requests of this replica that wait for the lane", ["lane"])
LANE_BROKEN = Gauge("forebay_lane_broken", "1 while the lane's circuit breaker is open or half open", ["lane"])
PUT_ASIDE = Counter("forebay_requests_put_aside", "Requests parked in the broker until a lane will do", ["tier"])
LATE = Counter("forebay_late_answers", "Answers that came after their request's deadline", ["outcome"])
AGAIN = Counter("forebay_requests_seen_again", "Redelivered requests at inference, by what became of them", ["outcome"])
CASCADES = Counter(
    "forebay_cascades", "Requests whose tier had cheaper ones tried first, by what came of it", ["tier", "verdict"]
)
SHADOWS = Counter(
    "forebay_shadow_calls", "Calls on behalf of the cache, by how they ended", ["purpose", "tier", "outcome"]
)
SHADOW_COST = Counter(
    "forebay_shadow_cost_usd", "US dollars at list price of these calls", ["purpose", "tier", "model"]
)
EMBEDDINGS = Counter("forebay_embedding_calls", "Calls to an embedding model", ["model", "outcome"])
EMBEDDING_COST = Counter("forebay_embedding_cost_usd", "US dollars at list price of embeddings", ["model"])

# persistence
TICKS = Counter("forebay_write_transactions", "Write transactions committed")
ROWS = Counter("forebay_rows_written", "Rows new to the database", ["table"])
TICK_SECONDS = Histogram("forebay_write_transaction_seconds", "Duration of one write transaction", buckets=_SECONDS)
POISON = Counter("forebay_poison_rows", "Events that could not be stored and were dead-lettered")
REPLAYED = Counter("forebay_requests_replayed", "Failed requests run anew, by what they had failed of", ["code"])
UNCACHED = Counter("forebay_answers_uncached", "Answers that become no cache entry, by reason", ["reason"])
REMOVED = Counter("forebay_cache_entries_removed", "Entries deleted: expired, invalidated or evicted", ["reason"])

# trends
TOPICS_COUNTED = Counter("forebay_trends_requests", "Requests whose topics were counted by this replica")
TOPICS_KEPT = Gauge("forebay_trends_topics", "Topics that are counted at present")
TRENDING = Gauge("forebay_trends_trending", "Topics that trend, by this replica's counts")
TRENDS_BEGUN = Counter("forebay_trends_begun", "Topics that began to trend, by this replica's counts")
TOPICS_TOLD = Gauge("forebay_trends_told", "Topics that this replica knows to be told from outside")
TOPICS_IN_FORCE = Gauge("forebay_cache_topics", "Trending topics that this replica of the cache heeds")
