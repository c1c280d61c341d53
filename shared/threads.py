"""Threads that work for one request."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class RequestThreads(ThreadPoolExecutor):
    """A pool whose log lines and spans belong to the request that started it."""

    def submit(self, call: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Run a call in a thread, with the context of this one."""
        context = copy_context()
        return super().submit(lambda: context.run(call, *args, **kwargs))
