"""What every service stands on: events, topology, messaging, settings, telemetry."""

__version__ = "0.1.0"
