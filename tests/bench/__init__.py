"""Measurements of the product's own classes against labelled data: `make bench-…`."""
