"""Persistence: the only writer of requests, responses and cache entries."""
