"""Runs in a database: the cache in SQL, its migrations, and LangGraph's checkpoints beside it."""

from tpo_graph.store.cache import SqlCache
from tpo_graph.store.opening import DEFAULT_URL, Store, open_store

__all__ = ["DEFAULT_URL", "SqlCache", "Store", "open_store"]
