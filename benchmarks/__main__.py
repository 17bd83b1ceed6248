"""python -m benchmarks [startup|banking77]."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import banking77, startup


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; without a name all benchmarks run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure; tables go to the README here.")
    parser.add_argument("benchmark", nargs="?", choices=["startup", "banking77"], help="one of them; default: all")
    parser.add_argument("--data", type=Path, default=banking77.DEFAULT_DATA, help="folder of the banking77 data")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(banking77.SEEDS), help="seeds of banking77")
    parser.add_argument("--resume", action="store_true", help="banking77: keep stored runs of the same set-up")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run what the command line asks for."""
    options = parse(arguments)
    if options.benchmark in (None, "startup"):
        startup.run()
    if options.benchmark in (None, "banking77"):
        banking77.run(options.data, options.seeds, options.resume)


if __name__ == "__main__":
    main()
