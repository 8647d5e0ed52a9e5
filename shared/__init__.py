"""What every service stands on: events, topology, messaging, settings, telemetry."""

__version__ = "0.1.0"

# Along the path of a request.
SERVICES = ("ingest", "cache", "router", "inference", "persistence", "trends")
