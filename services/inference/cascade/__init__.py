"""Cascades: a tier's requests run on cheaper ones first, where the answer can be checked."""
