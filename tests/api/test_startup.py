import gc
import subprocess
import sys

from marquee.api.startup import quick_start, started

ARROW_WITHOUT_PANDAS = """
import sys
from marquee.api.startup import quick_start

with quick_start():
    import pyarrow as pa
    pa.array([1]).to_numpy()
assert "pandas" not in sys.modules
frame = pa.table({"a": [1]}).to_pandas()  # who wants it still gets it
assert type(frame) is sys.modules["pandas"].DataFrame
"""


def test_arrow_does_without_pandas_until_it_is_asked_for():
    subprocess.run([sys.executable, "-c", ARROW_WITHOUT_PANDAS], check=True)


def test_garbage_is_collected_again_after_the_start_or_its_failure():
    try:
        with quick_start():
            assert not gc.isenabled()
            raise ZeroDivisionError
    except ZeroDivisionError:
        assert gc.isenabled()
    before = gc.get_freeze_count()
    try:
        with quick_start():
            started()
            assert gc.isenabled()
            assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()
