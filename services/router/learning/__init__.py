"""The learned head: a scorer trained on labelled prompts, for traffic that resembles them.

``rows`` reads labels, ``training`` makes a head of them, ``evaluation`` and ``gate`` say what it is worth, ``head`` is
its file and its score, ``reload`` takes up a new file while the router runs. Only the last two and ``features`` run in
the service.
"""
