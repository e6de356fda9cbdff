"""Chat project of the behaviour tests: a Channels layer, a cache and a task queue, all in the site's Valkey."""

from parlour.jobs import queue

__all__ = ["queue"]
