"""
Make a site-packages folder smaller: `python3 trim.py FOLDER [--serving]`, with binutils' `strip` on the path.

Away goes what no program loads: tests, sources of extensions, symbols that only a debugger reads. With
`--serving`, what the API never loads goes too. Whole modules go, so that an import of one says so at once; a
test imports in the image all that serving may import.
"""

import shutil
import subprocess
import sys
from pathlib import Path

NEVER_LOADED = (
    "**/*.c", "**/*.cc", "**/*.cpp", "**/*.h", "**/*.hpp", "**/*.pxd", "**/*.pxi", "**/*.pyx", "**/*.pyi",
    "**/tests", "pyarrow/include",
    # The wheel has this library three times; the name that others ask for is `.so.` and a major version.
    "pyarrow/libarrow_python*.so", "pyarrow/libarrow_python*.so.*.*.*",
)  # fmt: skip
NOT_BY_SERVING = (
    "pyarrow/*flight*", "pyarrow/_*substrait*", "pyarrow/*gcsfs*", "pyarrow/*hdfs*", "pyarrow/*orc*",
    # Of SciPy it needs sparse matrices, linear algebra and special functions.
    *(f"scipy/{name}" for name in ("cluster", "constants", "datasets", "differentiate", "fft", "fftpack",
                                   "integrate", "interpolate", "io", "misc", "ndimage", "odr", "optimize",
                                   "signal", "spatial", "stats")),
    *(f"sqlalchemy/dialects/{name}" for name in ("mssql", "mysql", "oracle", "sqlite")),
    "sqlalchemy/testing",
)  # fmt: skip
LEXERS = ("__init__", "_mapping", "python", "special")
"""Of Pygments serving needs what Rich shows its own errors with."""


def main(folder: Path, *, serving: bool) -> None:
    """Trim a folder and say by how much."""
    before = _size(folder)
    found = [path for pattern in NEVER_LOADED for path in folder.glob(pattern)]
    if serving:
        found += [path for pattern in NOT_BY_SERVING for path in folder.glob(pattern)]
        found += [path for path in folder.glob("pygments/lexers/*.py") if path.stem not in LEXERS]
    for path in found:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for library in sorted(folder.rglob("*.so*")):
        # Libraries in *.libs were edited after they were linked; strip may break those.
        if library.is_file() and not library.parent.name.endswith(".libs"):
            subprocess.run(["strip", "--strip-unneeded", str(library)], check=True)
    sys.stdout.write(f"{before / 1e6:.0f} MB before, {_size(folder) / 1e6:.0f} MB after\n")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main(Path(sys.argv[1]), serving="--serving" in sys.argv)
