"""kill -9, again and again: `python -m tests.training.kill_suite 100`, or `... every-operation`.

A parent that has imported everything forks the lives of runs, so that a life costs about a second; every tenth is a
process of its own. A run is killed and resumed until it comes to its end, and must then equal the run that nothing
disturbed. After every kill its folder must be readable and hold no damaged checkpoint, and the energy of all lives
must be counted.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import yaml

from finetune.cli.app import main
from finetune.emissions import meter
from finetune.emissions.components import Component, absent
from finetune.runs.cleaning import never_began
from finetune.training.recovery import find_checkpoint
from tests import tiny
from tests.training.conftest import read_log, read_run

KILLS_OF_ONE_RUN = 6
FRESH_EVERY = 10  # one life in so many is a process of its own, measured by codecarbon
TRAINING = {
    "num_train_epochs": 3, "per_device_train_batch_size": 8, "learning_rate": 2e-3, "mixed_precision": "no",
    "logging_steps": 1, "eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 2,
}  # fmt: skip


class StillSource:
    """A power source that draws nothing and needs no second to start."""

    def start(self):
        return (Component("cpu", "modelled", "a stub"), absent("gpu", "a stub"), absent("ram", "a stub"))

    def read(self):
        return {"cpu": round(time.monotonic() * 1e6)}

    def stop(self):
        pass

    def problem(self, component):
        return "a stub"

    def tool(self):
        return {"name": "stub", "version": "0"}

    def notes(self):
        return ()


def import_everything() -> None:
    """Import what a run needs, and measure with a stub in the lives that are forked from here."""
    import accelerate
    import datasets
    import evaluate
    import safetensors.torch
    import torch
    import transformers

    import finetune.training.start

    assert all((accelerate, datasets, evaluate, safetensors, transformers, finetune))
    torch.set_num_threads(1)
    meter._codecarbon = lambda *arguments: StillSource()


def write_recipe(folder: Path, **training) -> Path:
    """Write the toy task, a tiny checkpoint with dropout, and a recipe that saves often."""
    rows = tiny.toy_rows()
    data = folder / "data"
    data.mkdir()
    for split, part in {"train": rows[:64], "validation": rows[64:80], "test": rows[80:]}.items():
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    recipe = {
        "task": "text-classification",
        "model": {"name_or_path": str(tiny.make_checkpoint("bert", folder / "bert", 0.1))},
        "dataset": {"path": str(data)},
        "training": {**TRAINING, **training},
        "evaluation": {"baselines": ["majority"]},
        "emissions": {"country_iso_code": "BRA"},
        "output_dir": str(folder / "runs"),
    }
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def fork_life(arguments: list[str], said: Path, before=lambda: None) -> int:
    """Run the command line in a forked child and return its process id."""
    process = os.fork()
    if process:
        return process
    code = 99
    try:
        handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        before()
        code = main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def fresh_life(arguments: list[str], said: Path) -> int:
    """Run the command line in a new process and return its process id."""
    with said.open("a") as output:
        command = [sys.executable, "-m", "finetune", *arguments]
        return subprocess.Popen(command, stdout=output, stderr=output).pid


def wait(process: int) -> int:
    """Return the exit code of a life, -9 when it was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def kill_later(process: int, seconds: float) -> int:
    """Kill a life after so many seconds, unless it ends before, and return its exit code."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    return wait(process)


def kill_at_operation(count: int, runs: Path):
    """Return what makes a life kill itself before its n-th operation on files under a folder."""
    watched = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.link", "os.truncate")
    seen, prefix = 0, str(runs)

    def hook(event, details):
        nonlocal seen
        if event in watched and any(str(part).startswith(prefix) for part in details[:2]):
            seen += 1
            if seen == count:
                os.kill(os.getpid(), signal.SIGKILL)

    return lambda: sys.addaudithook(hook)


def command(*arguments: object) -> str:
    """Run a light command in this process and return what it printed; it must succeed."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    assert code == 0, (arguments, code, err.getvalue())
    return out.getvalue()


def check_after_kill(runs: Path) -> Path | None:
    """Return the run's folder, None when it has no record yet; everything that reads runs must be able to."""
    if not runs.exists():
        return None
    listed = json.loads(command("list", "--output-dir", runs, "--json"))["runs"]
    if not listed:
        assert len(never_began(runs)) == len(list(runs.iterdir())), list(runs.rglob("*"))
        return None
    [run] = listed
    directory = runs / run["run_id"]
    assert run["status"] in ("interrupted", "completed"), run["status"]
    shown = json.loads(command("show", directory, "--json"))
    assert shown["run_id"] == directory.name
    command("compare", directory, "--json")
    found = find_checkpoint(directory, needs_best=True)
    assert found.notes == (), found.notes
    names = [path.name for path in (directory / "checkpoints").glob("step-*") if path.suffix != ".tmp"]
    assert (found.checkpoint.name if found.checkpoint else None) == max(names, default=None)
    if run["status"] == "completed":
        assert (directory / "model" / "README.md").is_file()
    return directory


def check_energy(directory: Path, counted_uj: int) -> int:
    """The energy of all lives is counted, what was counted once stays, repeated work has its line; return the total."""
    total_uj, repeated_uj = energy_of_journal(directory)
    emissions = json.loads(command("show", directory, "--json"))["emissions"]
    if not total_uj:
        return 0
    assert total_uj >= counted_uj, (directory, total_uj, counted_uj)
    for published, microjoules in (("energy_kwh", total_uj), ("repeated_work_kwh", repeated_uj)):
        assert abs(emissions[published] * 3.6e12 - microjoules) < 2, (directory, published, microjoules)
    for parts in (emissions["segments"], emissions["phases"].values(), emissions["components"].values()):
        summed = sum(part["energy_kwh"] or 0 for part in parts)
        assert abs(summed - emissions["energy_kwh"]) <= 1e-9 * emissions["energy_kwh"], (directory, summed)
    return total_uj


def energy_of_journal(directory: Path) -> tuple[int, int]:
    """Return total and repeated microjoules, reckoned apart from the ledger.

    On the axis of all that was spent, a life that goes on from a checkpoint wastes the stretch between the two.
    """
    cells: dict[int, dict[tuple[str, str], int]] = {}
    marks: dict[int, int] = {}
    path = directory / "energy.jsonl"
    for raw in path.read_bytes().splitlines() if path.exists() else ():
        try:
            line = json.loads(raw)
        except ValueError:  # torn by a kill
            continue
        own = cells.setdefault(line["segment"], {})
        if line["kind"] == "segment" and line["resumed_from_uj"] is not None:
            marks[line["segment"]] = line["resumed_from_uj"].get("0", 0)
        for phase, parts in line.get("microjoules", {}).items():
            own |= {(phase, name): max(energy, own.get((phase, name), 0)) for name, energy in parts.items()}
    spent, wasted = 0, []
    for segment in sorted(cells):
        if segment in marks:
            wasted.append((marks[segment], spent))
        spent += sum(cells[segment].values())
    repeated, reached = 0, 0
    for start, end in sorted(wasted):
        repeated += max(0, end - max(start, reached))
        reached = max(reached, end)
    return spent, repeated


def outcome(directory: Path) -> tuple:
    """Return what a run computed: its log without the clock, the digest of its weights and predictions, its scores."""
    files = [directory / "model" / "model.safetensors", *sorted(directory.glob("predictions-*.jsonl"))]
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    record = read_run(directory)
    assert record["status"] == "completed"
    return read_log(directory), digests, record["metrics"], record["training"]["best_step"]


def check_whole(directory: Path, expected: tuple) -> None:
    """A finished run equals the undisturbed one, and nothing half written is left in it."""
    assert outcome(directory) == expected, directory
    left = [path for path in directory.rglob("*") if path.name.endswith((".tmp", ".old")) or path.name == "alive.json"]
    # A kill after the last record leaves the sign of life behind; the dead process no longer counts.
    assert not [path for path in left if path.name != "alive.json"], left


def undisturbed(recipe: Path, folder: Path) -> tuple[tuple, float]:
    """Return the outcome of the run that nothing disturbs, and the seconds it took."""
    began = time.monotonic()
    code = wait(fork_life(["run", str(recipe), f"output_dir={folder / 'whole'}"], folder / "whole.txt"))
    assert code == 0, (folder / "whole.txt").read_text()
    [directory] = (folder / "whole").iterdir()
    return outcome(directory), time.monotonic() - began


def random_kills(kills: int, folder: Path, seed: int = 11) -> dict[str, int]:
    """Kill runs at random moments of their lives until there were so many kills; return what happened how often."""
    recipe, draw = write_recipe(folder), random.Random(seed)
    undisturbed(recipe, folder)  # fills the cache of tokenised rows
    shutil.rmtree(folder / "whole")
    expected, whole_s = undisturbed(recipe, folder)
    seen = {"kills": 0, "before the record": 0, "after a checkpoint": 0, "while resuming": 0, "fresh": 0, "runs": 0}
    while seen["kills"] < kills:
        runs = folder / f"runs-{seen['runs']}"
        directory, killed, counted_uj = None, 0, 0
        while True:
            goal = ["run", "--resume", str(directory)] if directory else ["run", str(recipe), f"output_dir={runs}"]
            said = folder / f"{runs.name}.txt"
            if killed == min(KILLS_OF_ONE_RUN, kills - seen["kills"] + killed):
                code = wait(fork_life(goal, said))  # killed often enough: it may come to its end
            elif seen["kills"] % FRESH_EVERY == FRESH_EVERY - 1:
                seen["fresh"] += 1
                code = kill_later(fresh_life(goal, said), draw.uniform(3, 10 + whole_s))
            else:
                code = kill_later(fork_life(goal, said), draw.uniform(0, whole_s))
            if code == 0:
                break
            assert code == -signal.SIGKILL, said.read_text()
            killed, seen["kills"] = killed + 1, seen["kills"] + 1
            seen["while resuming"] += directory is not None
            directory = check_after_kill(runs)
            counted_uj = check_energy(directory, counted_uj) if directory is not None else 0
            if directory is None:
                seen["before the record"] += 1
                shutil.rmtree(runs, ignore_errors=True)
            elif read_run(directory)["status"] == "completed":
                break
            else:
                seen["after a checkpoint"] += find_checkpoint(directory, needs_best=True).checkpoint is not None
        [directory] = runs.iterdir()
        check_after_kill(runs)
        check_energy(directory, counted_uj)
        check_whole(directory, expected)
        seen["runs"] += 1
        shutil.rmtree(runs)
    return seen


def kills_at_every_operation(folder: Path, first: int = 1, stride: int = 1) -> int:
    """Kill a short run before each of its operations on files, resume it, and return how many operations there are."""
    recipe = write_recipe(folder, max_steps=5, eval_steps=2, save_total_limit=1)
    undisturbed(recipe, folder)
    shutil.rmtree(folder / "whole")
    expected, _ = undisturbed(recipe, folder)
    count = first
    while True:
        runs, said = folder / f"runs-{count}", folder / f"runs-{count}.txt"
        before = kill_at_operation(count, runs)
        code = wait(fork_life(["run", str(recipe), f"output_dir={runs}"], said, before))
        if code == 0:
            return count - 1
        assert code == -signal.SIGKILL, said.read_text()
        directory = check_after_kill(runs)
        if directory is not None and read_run(directory)["status"] != "completed":
            code = wait(fork_life(["run", "--resume", str(directory)], said))
            assert code == 0, said.read_text()
        if directory is not None:
            check_after_kill(runs)
            check_energy(directory, 0)
            check_whole(directory, expected)
        shutil.rmtree(runs, ignore_errors=True)
        count += stride


if __name__ == "__main__":
    import_everything()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["FINETUNE_CACHE"] = str(Path(scratch) / "cache")
        if sys.argv[1:2] == ["every-operation"]:
            stride = int(sys.argv[2]) if len(sys.argv) > 2 else 1
            print(f"{kills_at_every_operation(Path(scratch), stride=stride)} operations on files, one kill before each")
        else:
            seen = random_kills(int(sys.argv[1]) if len(sys.argv) > 1 else 25, Path(scratch))
            print(", ".join(f"{count} {what}" for what, count in seen.items()))
