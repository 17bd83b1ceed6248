"""Stands in for the probe in tests: it does what the third word says, instead of the country."""

import json
import os
import signal
import sys
import time
from pathlib import Path

folder, what, behaviour = Path(sys.argv[1]), sys.argv[2], sys.argv[3]


def write(name, content):
    part = folder / f"{name}.part"
    part.write_text(json.dumps(content))
    part.rename(folder / name)


assert (folder / "recipe.yaml").is_file()
if behaviour == "error":
    write("error.json", {"message": "dataset.path: nothing is there", "hint": "Look again."})
    sys.exit(1)
if behaviour == "crash":
    raise RuntimeError("the library is broken")
write("found.json", {"folder": str(folder), "pid": os.getpid()})
if behaviour == "slow and measured":
    write("measured.json", {"steps": 1})
if behaviour.startswith("slow"):
    time.sleep(60)
if behaviour == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "measure":
    write("measured.json", {"steps": 3})
