"""Inference: the only service that talks to providers."""
