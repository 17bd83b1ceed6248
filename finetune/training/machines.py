"""The machines of a run: one meter each, one record of them all, and one folder or several.

Every machine has the run directory under the same path. Where they share a file system it is one folder; where they do
not, rank 0's is the run, and those of the others hold their own energy journals only.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from finetune import ranks
from finetune.emissions.host import node_rank
from finetune.emissions.journal import read_journal
from finetune.emissions.meter import EnergyMeter, NullMeter
from finetune.emissions.nodes import Copies
from finetune.runs.liveness import FILE_NAME

_PIECE_BYTES = 32 * 2**20


@dataclass
class Machines:
    """What rank 0 has to know of the other machines; `apart` are those that have a folder of their own."""

    directory: Path
    count: int = 1
    apart: frozenset[int] = frozenset()
    _copies: Copies | None = field(default=None, repr=False)

    def share_energy(self, meter: EnergyMeter | NullMeter) -> None:
        """Tell rank 0 what every machine has spent; all ranks call it at the same place of the run."""
        if self.count == 1:
            return
        told = list(chain.from_iterable(ranks.gather(meter.lives())))
        meter.hear(told)
        if self.apart and ranks.is_main():
            self._copies = self._copies or Copies(self.directory)
            self._copies.keep(life for life in told if life.node in self.apart)

    @contextmanager
    def at_hand(self, *folders: Path) -> Iterator[None]:
        """Have folders that rank 0 has, under the same path on every machine; all ranks call it.

        Machines apart from rank 0's get a copy. It is taken away again afterwards where there was nothing before.
        """
        if not self.apart:
            yield
            return
        gets_copies = ranks.is_local_main() and node_rank(os.environ) in self.apart
        were_there = [folder for folder in folders if gets_copies and folder.is_dir()]
        for folder in folders if gets_copies else ():
            shutil.rmtree(_under_way(folder), ignore_errors=True)
        pieces = _pieces(folders) if ranks.is_main() else iter(())
        while (piece := ranks.broadcast(next(pieces, None))) is not None:
            folder, name, content = piece
            if gets_copies:
                part = _under_way(folder) / name
                part.parent.mkdir(parents=True, exist_ok=True)
                with part.open("ab") as file:
                    file.write(content)
        arrived = [folder for folder in folders if gets_copies and _under_way(folder).is_dir()]
        for folder in arrived:  # never half a checkpoint under a checkpoint's name
            shutil.rmtree(folder, ignore_errors=True)
            _under_way(folder).rename(folder)
        ranks.everywhere(None)
        yield
        ranks.everywhere(None)
        for folder in arrived:
            if folder not in were_there:
                shutil.rmtree(folder)

    def read_what_they_left(self, meter: EnergyMeter | NullMeter) -> None:
        """Let rank 0 take over the journals that other machines wrote into the shared folder until they died."""
        if self.count > 1 and ranks.is_main():
            meter.hear(read_journal(self.directory))


def _under_way(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.tmp")


def _pieces(folders: Iterable[Path]) -> Iterator[tuple[Path, str, bytes]]:
    """Yield the files of folders, piece by piece, as (folder, name, content)."""
    for folder in folders:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            with path.open("rb") as file:
                while content := file.read(_PIECE_BYTES):
                    yield folder, path.name, content


def meet(directory: Path) -> Machines:
    """Make the run directory on every machine and tell which of them share it; all ranks call it."""
    count = len(set(ranks.everywhere(node_rank(os.environ))))
    if count == 1:
        return Machines(directory)
    sign = directory / FILE_NAME  # written by rank 0, and of each process and moment different
    seen = ranks.on_main(lambda: sign.read_text(encoding="utf-8"))
    if ranks.is_local_main():
        directory.mkdir(parents=True, exist_ok=True)
    is_apart = ranks.is_local_main() and not (sign.is_file() and sign.read_text(encoding="utf-8") == seen)
    answers = ranks.everywhere((node_rank(os.environ), is_apart))
    return Machines(directory, count, frozenset(node for node, says_so in answers if says_so))
