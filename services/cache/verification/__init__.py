"""Whether two similar prompts ask the same: each guard is a named reason to say no."""
