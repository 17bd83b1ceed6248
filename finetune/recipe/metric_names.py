"""What metrics are called in a recipe: which names a task has, and what is probably meant by others."""

import difflib
from pathlib import PurePath

from finetune.recipe.schema import Recipe
from finetune.tasks import Task, all_tasks
from finetune.text import join_words

# The validation loss is computed in every evaluation, so that it can decide although it is no metric.
LOSS = "loss"
# How transformers' Trainer writes the metrics of an evaluation.
TRAINER_PREFIX = "eval_"

# Metrics that people know from another task, so that asking the hub for them could only fail later.
METRICS_OF_OTHER_TASKS = {
    "seqeval": "token-classification",
    "squad": "question-answering",
    "squad_v2": "question-answering",
    "perplexity": "text-generation",
    **dict.fromkeys(
        ("rouge", "bleu", "sacrebleu", "meteor", "chrf", "ter", "bertscore", "bleurt", "comet"), "text2text-generation"
    ),
}
COMPUTED_BY_ITSELF = ("seqeval", "squad", "squad_v2")  # modules whose scores are the task's own metrics
METRIC_NICKNAMES = {
    "acc": "accuracy",
    "mcc": "matthews_correlation",
    "matthews": "matthews_correlation",
    "rouge": "rougeL",
    "sacrebleu": "bleu",
}
# Without an average the hub's modules of these names take two classes only, and fail in the first evaluation.
AVERAGED = {
    name: tuple(f"{name}_{average}" for average in ("macro", "micro", "weighted"))
    for name in ("f1", "precision", "recall")
}


def metric_fault(name: str, recipe: Recipe, task: Task) -> str | None:
    """Return why a metric cannot be used for this recipe, or None; names nobody knows are left to evaluate.load."""
    allowed = task_metrics(recipe, task)
    has_averages = any(form in allowed for forms in AVERAGED.values() for form in forms)
    if name in allowed or (has_averages and any(name in forms for forms in AVERAGED.values())):
        return None
    has = f"{task.name} has {join_words(allowed, 'and')}"
    if name in AVERAGED and has_averages:
        forms = AVERAGED[name]
        return f"{name} needs an average: {join_words(forms)}; did you mean {forms[0]}?"
    if name in task.all_metrics() or name in AVERAGED:
        return f"{name} is not a metric of {recipe.dataset.problem_type}, which has {join_words(allowed, 'and')}"
    of_task = METRICS_OF_OTHER_TASKS.get(name)
    if of_task == task.name and name in COMPUTED_BY_ITSELF:
        return f"{name} is computed by itself; {has}"
    if of_task is not None and not _is_same(task, of_task):
        return f"{name} is a metric of {of_task}; {has}"
    if near := _near_metric(name, allowed):
        return f"unknown metric {name}; did you mean {near}?"
    return None


def _is_same(task: Task, name: str) -> bool:
    """Tell whether a task is that of a name, or one that differs from it in little more than the name."""
    named = all_tasks().get(name)
    return named is not None and named.encode is task.encode


def task_metrics(recipe: Recipe, task: Task) -> tuple[str, ...]:
    """Return the metrics that the task has for the recipe's problem type, or for all while that is auto."""
    problem_type = recipe.dataset.problem_type
    return task.all_metrics() if problem_type == "auto" else tuple(task.metrics.get(problem_type, ()))


def short_metric(reference: str) -> str:
    """Return what a metric is called in records: the last part of a path or of owner/name."""
    return PurePath(reference).stem if "/" in reference else reference


def scored_names(recipe: Recipe, task: Task) -> tuple[str, ...]:
    """Return the names that may decide which model is best: the task's metrics, those asked for, and the loss."""
    asked = map(short_metric, recipe.evaluation.metrics or ())
    return tuple(dict.fromkeys((*task_metrics(recipe, task), *asked, LOSS)))


def deciding_name(written: str, recipe: Recipe, task: Task) -> str | None:
    """Return the name in records that a metric_for_best_model means (eval_accuracy: accuracy); None: not scored."""
    short = short_metric(written)
    names = scored_names(recipe, task)
    return next((name for name in (short, short.removeprefix(TRAINER_PREFIX)) if name in names), None)


def deciding_fault(written: str, recipe: Recipe, task: Task) -> str:
    """Return why a metric_for_best_model that is not scored is refused."""
    names = scored_names(recipe, task)
    bare = short_metric(written).removeprefix(TRAINER_PREFIX)
    near = next((form for form in AVERAGED.get(bare, ()) if form in names), None) or _near_metric(bare, names)
    said = f"did you mean {near}?" if near else f"this recipe scores {join_words(names, 'and')}"
    return f"{written} is not scored; {said}"


def without_bounds(name: str) -> str:
    """Return why a gain in a metric cannot be counted in points."""
    return f"{name} has no bounds that are known, and so no points that a gain could be counted in"


def _near_metric(name: str, allowed: tuple[str, ...]) -> str | None:
    if name in METRIC_NICKNAMES and METRIC_NICKNAMES[name] in allowed:
        return METRIC_NICKNAMES[name]
    words = sorted(name.lower().replace("-", "_").split("_"))
    same_words = next((metric for metric in allowed if sorted(metric.split("_")) == words), None)
    # Nearer than did_you_mean asks for: many a name of the hub is only like one of ours.
    return same_words or next(iter(difflib.get_close_matches(name, allowed, n=1, cutoff=0.8)), None)
