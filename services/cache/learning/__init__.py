"""What the cache learns from its own answers: how often near ones are wrong, and where the threshold belongs."""
