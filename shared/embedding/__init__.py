"""Prompts to vectors: the model built in (``builtin``), and any other through inference (``remote``).

Nothing is imported here: whoever needs no vectors does not load what makes them.
"""
