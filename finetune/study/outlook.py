"""What a study would do: its runs by strategy, and which of them are there."""

from __future__ import annotations

from finetune.runs.tables import Column, plain, text_table
from finetune.study.definition import Study
from finetune.study.plan import State, number_of_cells
from finetune.text import plural


def plan_text(study: Study, state: State) -> str:
    """Return the plan of a study for people."""
    searches, cells = [member for member, _ in state.searches], number_of_cells(study)
    done = sum(run is not None and run.is_finished for _, run in state.members)
    amounts = ", ".join("all" if rows is None else f"{rows:,}" for rows in study.rows)
    rates = [", ".join(f"{rate:g}" for rate in each.learning_rates) for each in study.strategies]
    chosen = [state.rates.get(each.name) for each in study.strategies]
    columns = [
        Column("strategy", [f"{each.name}{' *' if each.name == study.reference else ''}" for each in study.strategies]),
        Column("sets", [" ".join(each.settings) or "–" for each in study.strategies]),
        Column("learning rates", [words or "the recipe's" for words in rates]),
        Column("chosen", [f"{rate:g}" if rate is not None else "–" for rate in chosen]),
    ]
    training = study.loaded.recipe.training
    patience = training.early_stopping_patience
    until = (
        f"until {plural(patience, 'evaluation')} in a row bring nothing better, at most"
        if patience
        else "without early stopping:"
    )
    begun = searches[0] if searches else None
    where = "the rows of the recipe" if begun is None or begun.rows is None else f"{begun.rows:,} rows"
    lines = [
        f"{study.name}: {plural(len(searches) + cells, 'run')}, {done} of them finished",
        "",
        text_table(columns),
        "",
        f"search   {plural(len(searches), 'run')} on {where} with seed {begun.seed if begun else study.search_seed}; "
        "the best on validation is taken",
        f"table    {plural(len(study.strategies), 'strategy', 'strategies')} × rows {amounts} × seeds "
        f"{', '.join(map(str, study.seeds))} = {plural(cells, 'run')}",
        f"each     trains {until} {training.num_train_epochs:g} epochs"
        if not training.max_steps
        else f"each     trains {until} {training.max_steps:,} steps",
        f"against  {study.reference} (*)",
        f"in       {study.output_dir}",
    ]
    if not patience:
        lines.append("note     equal epochs undertrain a model from scratch: set training.early_stopping_patience")
    return plain("\n".join(lines))
