"""How long an answer may be reused: rules first, then a trained classifier, both with their reasons."""
