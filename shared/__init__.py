"""What every service stands on: events, topology, messaging, settings, telemetry."""
