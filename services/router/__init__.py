"""The router: which tier a prompt deserves, and how long its answer may be reused."""
