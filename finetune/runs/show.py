"""Everything about one run, for `finetune show`."""

from collections.abc import Mapping
from typing import Any

from finetune.runs import formats
from finetune.runs.beside import beside_lines
from finetune.runs.bias import bias_text
from finetune.runs.differences import flatten
from finetune.runs.record import Run, Score, as_mapping, as_number, as_sections
from finetune.runs.report import BASELINE_WORDS, closing_panel, intensity_source, intensity_words
from finetune.runs.tables import Column, one_line, plain, shorten, text_table
from finetune.text import join_some, plural


def show_text(run: Run, width: int, timeline: bool = False) -> str:
    """Return a page about a run for a terminal of `width` characters; `timeline` adds its evaluations."""
    blocks = [
        closing_panel(run, shown=True),
        "\n".join(f"{name:<10}{one_line(value)}" for name, value in run_facts(run).items()),
        _scores(run),
        bias_text(run.bias, whole=False),
        _phases(run),
        _components(run, width),
        _beside(run),
        idle_words(run),
        "\n".join(f"note: {note}" for note in run_notes(run)),
        _timeline(run) if timeline else "",
    ]
    return plain("\n\n".join(block for block in blocks if block))


def run_facts(run: Run) -> dict[str, str]:
    """Return what a run was, by name; what the record does not say is left out."""
    created = (run.created_at or "–").replace("T", " ")
    finished = f", finished {run.finished_at.replace('T', ' ')}" if run.finished_at else ""
    facts = {
        "run": run.run_id,
        "started": created + finished,
        "command": run.command,
        "model": _model(run.model),
        "data": _data(run.dataset),
        "lengths": _lengths(run.dataset),
        "training": _training(run.training),
        "grid": _grid(run.emissions),
        "tags": ", ".join(run.tags),
    }
    return {name: value for name, value in facts.items() if value}


def _grid(emissions: Mapping[str, Any]) -> str:
    intensity, pue = emissions.get("carbon_intensity"), as_number(emissions.get("pue"))
    source = intensity_source(intensity)
    factor = f"; PUE {pue:g}" if pue is not None and pue != 1 else ""
    return f"{intensity_words(intensity)}; {source}{factor}" if source else ""


def _model(model: Mapping[str, Any]) -> str:
    count, trained = as_number(model.get("parameters")), as_number(model.get("trainable_parameters"))
    parts = [
        str(model.get("name_or_path") or ""),
        str(model.get("model_type") or ""),
        str(model.get("init") or ""),
        f"{count:,.0f} parameters" if count is not None else "",
        f"{trained:,.0f} of them trained" if trained is not None and trained != count else "",
    ]
    return ", ".join(part for part in parts if part)


def _data(dataset: Mapping[str, Any]) -> str:
    rows, dropped = as_mapping(dataset.get("rows")), as_mapping(dataset.get("dropped_rows"))
    parts = [str(dataset.get("path") or "")]
    parts += [f"{count:,} {split}" for split, count in rows.items() if isinstance(count, int)]
    parts += [f"{plural(count, 'row')} dropped ({reason})" for reason, count in dropped.items() if count]
    return ", ".join(part for part in parts if part)


def _lengths(dataset: Mapping[str, Any]) -> str:
    stated = as_mapping(dataset.get("length_tokens"))
    median, most, longest = (as_number(stated.get(name)) for name in ("p50", "p95", "max"))
    limit, truncated, divided = (
        as_number(dataset.get(name)) for name in ("max_length", "truncated_fraction", "divided_fraction")
    )
    parts = [
        f"median {median:,.0f} tokens" if median is not None else "",
        f"95 % up to {most:,.0f}" if most is not None else "",
        f"longest {longest:,.0f}" if longest is not None else "",
        f"limit {limit:,.0f}" if limit is not None else "",
        # A record without lengths says only that something was cut.
        f"{100 * truncated:.1f} % of the training rows truncated" if truncated or (stated and truncated == 0) else "",
        f"{100 * divided:.1f} % read in parts" if divided else "",
    ]
    return ", ".join(part for part in parts if part)


def _training(training: Mapping[str, Any]) -> str:
    steps, epochs = as_number(training.get("steps")), as_number(training.get("epochs"))
    loss, seconds = as_number(training.get("train_loss")), as_number(training.get("train_runtime_s"))
    parts = [
        f"{steps:,.0f} steps" if steps is not None else "",
        f"{epochs:g} epochs" if epochs is not None else "",
        f"loss {formats.significant(loss)}" if loss is not None else "",
        formats.duration(seconds) if seconds is not None else "",
        str(training.get("device") or ""),
        str(training.get("mixed_precision") or ""),
    ]
    return ", ".join(part for part in parts if part)


def _scores(run: Run) -> str:
    splits, rows = run_scores(run)
    if not rows:
        return ""
    columns = zip(*(cells for _, cells in rows), strict=True)
    return text_table(
        [
            Column("score", [metric for metric, _ in rows]),
            *(Column(split, list(cells)) for split, cells in zip(splits, columns, strict=True)),
        ]
    )


def run_scores(run: Run) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return the splits and baselines that have scores, and for each metric what it is in each of them, in words."""
    named = {**run.metrics, **{BASELINE_WORDS.get(name, name): scores for name, scores in run.baselines.items()}}
    splits = as_sections(named)
    metrics = dict.fromkeys(metric for scores in splits.values() for metric in scores)
    return list(splits), [(metric, [_score(scores.get(metric)) for scores in splits.values()]) for metric in metrics]


def _score(value: Any) -> str:
    score = Score.from_json(value)
    return "–" if score is None else formats.score(score)


def _phases(run: Run) -> str:
    entries = as_sections(run.emissions.get("phases"))
    if not entries:
        return ""
    kwh = [as_number(entry.get("energy_kwh")) for entry in entries.values()]
    unit, factor = formats.energy_unit(kwh)
    return text_table(
        [
            Column("phase", list(entries)),
            Column(f"energy {unit}", [_cell(value, factor) for value in kwh], right=True),
            Column("g CO2e", [_cell(as_number(entry.get("emissions_g"))) for entry in entries.values()], right=True),
            Column(
                "time",
                [formats.duration(as_number(entry.get("duration_s"))) for entry in entries.values()],
                right=True,
            ),
        ]
    )


def _components(run: Run, width: int) -> str:
    entries = as_sections(run.emissions.get("components"))
    if not entries:
        return ""
    unit, factor = formats.energy_unit(as_number(entry.get("energy_kwh")) for entry in entries.values())
    columns = [
        Column("component", list(entries)),
        Column(f"energy {unit}", [_component_cell(entry, factor) for entry in entries.values()], right=True),
        Column("band", [_band(entry, factor) for entry in entries.values()]),
        Column("method", [str(entry.get("method") or formats.NOT_MEASURED) for entry in entries.values()]),
        Column("how", [shorten(str(entry.get("detail") or ""), max(20, width - 52)) for entry in entries.values()]),
    ]
    return text_table(columns)


def _beside(run: Run) -> str:
    lines = [f"{name:<10}{one_line(words)}" for name, words in beside_lines(run).items()]
    return "\n".join(["Beside the total:", *lines]) if lines else ""


def idle_words(run: Run) -> str:
    """Return what the machine drew at rest and what the run used above that, where a baseline was taken."""
    idle = run.emissions.get("idle")
    if not isinstance(idle, Mapping):
        return ""
    watts, above = (flatten(idle.get(name) or {}) for name in ("watts", "above_idle_kwh"))
    parts = []
    for name, value in watts.items():
        rest, kwh = as_number(value), as_number(above.get(name))
        if rest is not None:
            more = "not known for every part of the run" if kwh is None else formats.energy(kwh)
            parts.append(f"{name} {formats.significant(rest)} W, above it {more}")
    rested = f"at rest for {formats.duration(as_number(idle.get('duration_s')))}, not part of the total: "
    return rested + ("; ".join(parts) or "no component has a sensor, and a model says nothing about rest")


def _component_cell(entry: Mapping[str, Any], factor: float) -> str:
    return "–" if entry.get("method") == "absent" else _cell(as_number(entry.get("energy_kwh")), factor)


def _band(entry: Mapping[str, Any], factor: float) -> str:
    low, high = as_number(entry.get("energy_kwh_low")), as_number(entry.get("energy_kwh_high"))
    return "–" if low is None or high is None else formats.span(low * factor, high * factor)


def _cell(value: float | None, factor: float = 1.0) -> str:
    return formats.NOT_MEASURED if value is None else formats.significant(value * factor)


def run_notes(run: Run) -> list[str]:
    """Return what a reader of the run's numbers should know."""
    notes = run.emissions.get("notes")
    found = [str(note) for note in notes] if isinstance(notes, list) else []
    repeated = as_number(run.emissions.get("repeated_work_kwh"))
    segments = run.emissions.get("segments")
    if isinstance(segments, list) and len(segments) > 1:
        found.append(f"resumed {plural(len(segments) - 1, 'time')}: the energy before and after is counted together")
    if repeated:
        found.append(f"{formats.energy(repeated)} went into work that had to be done again after an interruption")
    if run.emissions.get("shared_with"):
        others = join_some(map(str, run.emissions["shared_with"]))
        found.append(f"{others} used the machine at the same time: the energy is that of all")
    return found


def _timeline(run: Run) -> str:
    entries = run.timeline
    if not entries:
        return "The run has no timeline: it was not evaluated while it trained."
    kwh = [as_number(entry.get("energy_kwh")) for entry in entries]
    unit, factor = formats.energy_unit(kwh)
    columns = [
        Column("step", [_count(entry.get("step")) for entry in entries], right=True),
        Column("epoch", [_count(entry.get("epoch")) for entry in entries], right=True),
        Column("time", [formats.duration(as_number(entry.get("elapsed_s"))) for entry in entries], right=True),
        Column(f"energy {unit}", [_cell(value, factor) for value in kwh], right=True),
        Column("g CO2e", [_cell(as_number(entry.get("emissions_g"))) for entry in entries], right=True),
    ]
    columns += [Column(metric, cells, right=True) for metric, cells in timeline_scores(run).items()]
    return "Cumulative, at each evaluation:\n" + text_table(columns)


def _count(value: Any) -> str:
    number = as_number(value)
    return "–" if number is None else f"{number:.6g}" if number % 1 else f"{number:.0f}"


def timeline_scores(run: Run) -> dict[str, list[str]]:
    """Return each metric of the run's evaluations, in words: what it was at each of them."""
    flat = [flatten(as_mapping(entry.get("metrics"))) for entry in run.timeline]
    names = dict.fromkeys(name.removesuffix(".value") for scores in flat for name in scores)
    return {
        name: [_number(scores.get(name, scores.get(f"{name}.value"))) for scores in flat]
        for name in names
        if name.rpartition(".")[2] not in ("low", "high", "n")
    }


def _number(value: Any) -> str:
    number = as_number(value)
    return "–" if number is None else formats.score_value(number)
