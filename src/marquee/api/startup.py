"""What makes the start of a process short, and its memory small."""

import contextlib
import ctypes
import gc
import sys
from collections.abc import Iterator
from importlib.abc import MetaPathFinder

__all__ = ["give_back", "quick_start", "started"]


@contextlib.contextmanager
def quick_start() -> Iterator[None]:
    """
    Load modules and bundles without what only costs time then, until `started` or the end of the block.

    Of the hundred thousands of objects that are made then almost all stay: to look for garbage among them,
    again and again, takes a tenth of the start.
    """
    _forgo_pandas()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def started() -> None:
    """Collect garbage again, but never go through what the start has made: that would hold up requests."""
    gc.freeze()
    gc.enable()


def give_back() -> None:
    """Give memory that was freed back to the system, where the C library would keep it for later."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
        if trim is not None:
            trim(0)


def _forgo_pandas() -> None:
    """
    Have pyarrow do without pandas where it need not have it, which is all but `to_pandas`.

    At its first array it looks for pandas, once, to know its types; where that is installed, it is loaded:
    a quarter of a second and 35 MB for nothing.
    """
    if "pandas" in sys.modules:
        return
    hidden = _Hidden()
    sys.meta_path.insert(0, hidden)
    try:
        import pyarrow as pa

        pa.array([0])
    finally:
        sys.meta_path.remove(hidden)


class _Hidden(MetaPathFinder):
    """Says of pandas that it is not there."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        """Raise for pandas, and leave all else to others."""
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is not loaded now", name=fullname)
