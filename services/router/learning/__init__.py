"""The learned head: a scorer trained on labelled prompts, for traffic that resembles them.

``rows`` reads labels from files and ``feedback`` the ratings of clients, of which ``ratings`` makes rows; ``training``
makes a head of rows, ``evaluation`` and ``gate`` say what it is worth, ``head`` is its file and its score, ``reload``
takes up a new file while the router runs. Only the last two and ``features`` score prompts in the service.
"""
