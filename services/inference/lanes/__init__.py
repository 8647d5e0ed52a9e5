"""Lanes: how much each provider may be asked, shared by all replicas, and which of them is asked next."""
