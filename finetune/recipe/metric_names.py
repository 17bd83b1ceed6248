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
    "rouge_l": "rougeL",
    "sacrebleu": "bleu",
    "blue": "bleu",
}
# Without an average the hub's modules of these names take two classes only, and fail in the first evaluation.
AVERAGED = {
    name: tuple(f"{name}_{average}" for average in ("macro", "micro", "weighted"))
    for name in ("f1", "precision", "recall")
}


def metric_fault(name: str, recipe: Recipe, task: Task) -> str | None:
    """Return why a metric cannot be used for this recipe, or None; names nobody knows are left to evaluate.load."""
    always, kind = task_metrics(recipe, task), recipe.dataset.problem_type
    allowed = (*always, *task.optional_metrics)
    has_averages = any(form in allowed for forms in AVERAGED.values() for form in forms)
    if name in always or (has_averages and any(name in forms for forms in AVERAGED.values())):
        return None
    has = f"{task.name} has {join_words(allowed, 'and')}"
    if name in AVERAGED and has_averages:
        forms = AVERAGED[name]
        return f"{name} needs an average: {join_words(forms)}; did you mean {forms[0]}?"
    if name not in allowed and (name in task.all_metrics() or (name in AVERAGED and kind != "auto")):
        return f"{name} is not a metric of {kind}, which has {join_words(allowed, 'and')}"
    if METRIC_NICKNAMES.get(name) in allowed:
        return f"unknown metric {name}; did you mean {METRIC_NICKNAMES[name]}?"
    if name not in allowed and (fault := _fault_of_other_task(name, task)):
        return f"{fault}; {has}"
    if name not in allowed and (near := _near_metric(name, allowed)):
        return f"unknown metric {name}; did you mean {near}?"
    if not any(column.target for column in task.all_columns):
        return f"{task.name} gives no answers that {name} could compare with references; {has}"
    if task.optional_metrics and "text" in recipe.dataset.columns:
        return f"{name} needs references, which plain texts do not have: map prompt and completion, or messages"
    return None


def _fault_of_other_task(name: str, task: Task) -> str | None:
    """Return why a metric that belongs to a task cannot be asked for in this one; None: it can, or belongs to none."""
    owner = METRICS_OF_OTHER_TASKS.get(name)
    if owner == task.name and name in COMPUTED_BY_ITSELF:
        return f"{name} is computed by itself"
    if owner is not None and not _writes_alike(task, owner):
        return f"{name} is a metric of {owner}"
    if owner is None and name in _built_in_metrics():
        return f"{name} does not fit {task.name}"
    return None


def _writes_alike(task: Task, owner: str) -> bool:
    """Tell whether a task is the owner of a metric, or writes texts as the owner does."""
    return task.name == owner or (task.generates is not None and all_tasks()[owner].generates is not None)


def _built_in_metrics() -> set[str]:
    """Return the names of all metrics of all tasks, which mean nothing else anywhere."""
    own = {name for task in all_tasks().values() for name in task.all_metrics()}
    return own | set(AVERAGED).union(*AVERAGED.values())


def task_metrics(recipe: Recipe, task: Task) -> tuple[str, ...]:
    """Return the metrics that the task has for the recipe's problem type, or for all while that is auto."""
    problem_type = recipe.dataset.problem_type
    if problem_type == "auto":
        return tuple(name for name in task.all_metrics() if name not in task.optional_metrics)
    return tuple(task.metrics.get(problem_type, ()))


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
    if short_metric(written).removeprefix(TRAINER_PREFIX) in task.optional_metrics:
        return f"{written} is scored only where evaluation.metrics names it"
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
