"""The catalogue of metrics: every name, once. Labels are never a request, a user or a prompt."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

# Messaging, in every service
CONSUMED = Counter("forebay_messages_consumed", "Deliveries settled, by outcome", ["queue", "outcome"])
PUBLISHED = Counter("forebay_messages_published", "Events confirmed by the broker", ["type"])
PROCESSING = Histogram(
    "forebay_processing_seconds", "From taking a delivery to settling it", ["queue"], buckets=_SECONDS
)
UNSETTLED = Gauge("forebay_messages_unsettled", "Deliveries taken and not yet settled", ["queue"])
CONNECTED = Gauge("forebay_broker_connected", "1 while there is a connection to the broker")

# ingest
ADMITTED = Counter("forebay_requests_admitted", "Submissions accepted", ["door", "priority"])
REFUSED = Counter("forebay_requests_refused", "Submissions refused", ["door", "code"])
ACCEPT_SECONDS = Histogram("forebay_accept_seconds", "From reading a body to the broker's confirm", buckets=_SECONDS)

# cache
LOOKUPS = Counter("forebay_cache_lookups", "Requests seen by the cache, by result", ["result"])
LOOKUP_SECONDS = Histogram("forebay_cache_lookup_seconds", "Embedding and search of one prompt", buckets=_SECONDS)
VETOES = Counter("forebay_cache_vetoes", "Near matches that verification refused", ["reason"])
WAITING = Gauge("forebay_cache_waiting", "Requests waiting for the answer of one in flight")

# router
ROUTED = Counter("forebay_requests_routed", "Routing decisions", ["tier", "freshness"])

# inference
CALLS = Counter("forebay_provider_calls", "Calls to a provider", ["tier", "model", "outcome"])
CALL_SECONDS = Histogram("forebay_provider_call_seconds", "Duration of one call", ["tier"], buckets=_SECONDS)
COST = Counter("forebay_cost_usd", "US dollars at list price", ["tier", "model"])
TOKENS = Counter("forebay_tokens", "Tokens as counted by the provider", ["tier", "direction"])

# persistence
TICKS = Counter("forebay_write_transactions", "Write transactions committed")
ROWS = Counter("forebay_rows_written", "Rows new to the database", ["table"])
TICK_SECONDS = Histogram("forebay_write_transaction_seconds", "Duration of one write transaction", buckets=_SECONDS)
POISON = Counter("forebay_poison_rows", "Events that could not be stored and were dead-lettered")
