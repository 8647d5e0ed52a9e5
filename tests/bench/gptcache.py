"""GPTCache as its documentation sets it up: SQLite, FAISS, distance evaluation; with the embedder of this project."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from shared.embedding.builtin import Vectors

THRESHOLD: Final = 0.8
AT_ONCE: Final = 10_000


def filled(
    folder: Path, texts: Sequence[str], vectors: Vectors, embed: Callable[[str], Vectors]
) -> Callable[[str], Any]:
    """A cache with an answer to each text; returns its ``get``: an answer, or None."""
    # An extra of its own, installed by the make target; what GPTCache would install by itself at run time is in it.
    from gptcache import Cache, Config
    from gptcache.adapter.api import get
    from gptcache.manager import CacheBase, VectorBase, get_data_manager
    from gptcache.processor.pre import get_prompt
    from gptcache.similarity_evaluation.distance import SearchDistanceEvaluation

    manager = get_data_manager(
        CacheBase("sqlite", sql_url=f"sqlite:///{folder / 'gptcache.db'}"),
        VectorBase("faiss", dimension=vectors.shape[1], index_path=str(folder / "faiss.index")),
        max_size=10 * len(texts),  # or it keeps the last thousand
    )
    manager.close = lambda: None  # called at exit, to write an index to a folder that is gone by then
    for start in range(0, len(texts), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        number = len(texts[part])
        manager.import_data(list(texts[part]), ["answer"] * number, list(vectors[part]), [None] * number)
    cache = Cache()
    cache.init(
        pre_embedding_func=get_prompt,
        embedding_func=lambda text, **_: embed(text),
        data_manager=manager,
        similarity_evaluation=SearchDistanceEvaluation(),
        config=Config(similarity_threshold=THRESHOLD),
    )
    return lambda text: get(text, cache_obj=cache)
