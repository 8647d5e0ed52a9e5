"""A SIMULATED provider of language models: the OpenAI protocol on loopback, with limits, latencies and faults to order.

Nothing here is a model, and no answer means anything. What is real is everything around the answers: rate limits that
refuse honestly, latencies, and the ways a provider fails. ``scenario.py`` says what there is to order, ``engine.py``
decides about each call, ``delivery.py`` brings the decision to the client, and ``counts.py`` keeps what was seen.
"""
