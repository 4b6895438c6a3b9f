"""Swift's `cache` filter over a dict: with one proxy process nobody has to share it, and no memcached is needed.

Without a cache every request asks account and container anew, which takes longer than what was asked for.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

MOST = 10_000  # keys: then it starts anew


class DictCache:
    """What the proxy calls of `swift.common.memcached.MemcacheRing`; values are kept as JSON, as there."""

    def __init__(self) -> None:
        self._kept: dict[Any, tuple[float, str]] = {}

    def get(self, key: Any, raise_on_error: bool = False) -> Any:
        until, text = self._kept.get(key, (0.0, ""))
        return json.loads(text) if until > time.time() else None

    def set(self, key: Any, value: Any, serialize: bool = True, time: float = 0, **_: Any) -> None:
        if len(self._kept) >= MOST:
            self._kept.clear()
        self._kept[key] = _until(time), json.dumps(value)

    def incr(self, key: Any, delta: int = 1, time: float = 0) -> int:
        value = max(0, int(self.get(key) or 0) + delta)
        self.set(key, value, time=time)
        return value

    def decr(self, key: Any, delta: int = 1, time: float = 0) -> int:
        return self.incr(key, -delta, time)

    def delete(self, key: Any, server_key: Any = None) -> None:
        self._kept.pop(key, None)

    def set_multi(self, mapping: Mapping[Any, Any], server_key: Any, time: float = 0, **_: Any) -> None:
        for key, value in mapping.items():
            self.set(key, value, time=time)

    def get_multi(self, keys: Sequence[Any], server_key: Any) -> list[Any]:
        return [self.get(key) for key in keys]


def _until(seconds: float) -> float:
    return time.time() + (seconds or 3600)


def filter_factory(global_settings: Mapping[str, str], **settings: str) -> Callable[[Any], Any]:
    """Return the filter, as PasteDeploy asks for it."""
    cache = DictCache()

    def around(app: Any) -> Any:
        def answer(environment: dict[str, Any], start_response: Any) -> Any:
            environment["swift.cache"] = cache
            return app(environment, start_response)

        return answer

    return around
