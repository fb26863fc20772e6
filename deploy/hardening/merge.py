"""Print a file of JSON with the keys of another set in it; those that the other has not are kept."""

import json
import sys
from pathlib import Path

present, ours = map(Path, sys.argv[1:])
try:
    merged = json.loads(present.read_text()) if present.exists() else {}
except ValueError as error:
    sys.exit(f"apply: {present} is no JSON ({error}). Mend it or move it away.")
merged.update(json.loads(ours.read_text()))
sys.stdout.write(json.dumps(merged, indent=2, sort_keys=True) + "\n")
