"""python -m benchmarks [startup|banking77|features]."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import banking77, features, startup


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; without a name all benchmarks run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure; tables go to the README here.")
    parser.add_argument(
        "benchmark", nargs="?", choices=["startup", "banking77", "features"], help="one of them; default: all"
    )
    parser.add_argument("--data", type=Path, help="folder with train, validation and test .jsonl of text and label")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(banking77.SEEDS), help="seeds of banking77")
    parser.add_argument("--resume", action="store_true", help="banking77: keep stored runs of the same set-up")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run what the command line asks for."""
    options = parse(arguments)
    if options.benchmark in (None, "startup"):
        startup.run()
    if options.benchmark in (None, "banking77"):
        banking77.run(options.data or banking77.DEFAULT_DATA, options.seeds, options.resume)
    if options.benchmark in (None, "features"):
        features.run(options.data)


if __name__ == "__main__":
    main()
