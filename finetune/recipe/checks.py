"""What several keys of a recipe, and the task, must agree on.

Each check yields findings: the key to blame first, then the keys it also looked at. A finding is dropped by the
caller when one of these keys is already known to be wrong.
"""

import re
from collections.abc import Iterator, Mapping, Set
from typing import Any, NamedTuple

from finetune.recipe.adapter_keys import adapter_defaults, adapter_faults, adapter_notes
from finetune.recipe.bias_keys import bias_faults
from finetune.recipe.data_formats import BUILDERS
from finetune.recipe.emissions_keys import emissions_faults
from finetune.recipe.generation_keys import generation_faults
from finetune.recipe.keys import Path, all_leaves, dotted
from finetune.recipe.metric_names import deciding_fault, deciding_name, metric_fault, without_bounds
from finetune.recipe.paths import missing_inputs
from finetune.recipe.prompt_keys import prompt_faults, prompt_notes
from finetune.recipe.schema import Recipe
from finetune.tasks import BOUNDED_METRICS, Task, all_tasks
from finetune.text import did_you_mean, join_words, nearest_or_all

# Values of the format whose feature this version does not have.
VALUES_NOT_AVAILABLE: Mapping[Path, tuple[str, ...]] = {
    ("model", "dtype"): ("bfloat16", "float16"),
}
SCHEDULERS_NOT_AVAILABLE = (
    "reduce_lr_on_plateau", "cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay", "greedy",
)  # fmt: skip
NOT_IN_THIS_VERSION = "not available in this version"

# What people call the tasks elsewhere.
TASK_NICKNAMES: Mapping[str, str] = {
    **dict.fromkeys(("ner", "pos", "pos-tagging", "tagging", "named-entity-recognition"), "token-classification"),
    **dict.fromkeys(("qa", "squad", "extractive-qa"), "question-answering"),
    **dict.fromkeys(("mlm", "masked-lm", "masked-language-modeling"), "fill-mask"),
    **dict.fromkeys(
        ("clm", "causal-lm", "causal-language-modeling", "language-modeling", "sft", "chat", "instruction-tuning"),
        "text-generation",
    ),
    **dict.fromkeys(("seq2seq", "seq2seq-lm", "text-to-text"), "text2text-generation"),
    **dict.fromkeys(("mcq", "swag"), "multiple-choice"),
    **dict.fromkeys(("sentiment-analysis", "sentiment", "sequence-classification", "nli"), "text-classification"),
}

VALIDATION_WORDS = ("valid", "val", "dev")  # other names under which that split is found
STEPS_BETWEEN = 100  # evaluations, and checkpoints, when the recipe says `steps` without a number

TASK, PROBLEM_TYPE = ("task",), ("dataset", "problem_type")
PATH, DATA_FILES = ("dataset", "path"), ("dataset", "data_files")
VALIDATION = ("dataset", "splits", "validation")
STREAMING = ("dataset", "streaming")
VALIDATION_SIZE = ("dataset", "validation_size")
EVAL_STRATEGY, SAVE_STRATEGY = ("training", "eval_strategy"), ("training", "save_strategy")
EVAL_STEPS, SAVE_STEPS = ("training", "eval_steps"), ("training", "save_steps")
MAX_G_PER_POINT = ("emissions", "max_g_per_point")
BEST_METRIC = ("training", "metric_for_best_model")
SEEDS = ("training", "seeds")
PUSH = ("hub", "push_to_hub")
HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*")
LOAD_BEST, PATIENCE = ("training", "load_best_model_at_end"), ("training", "early_stopping_patience")


class Finding(NamedTuple):
    """What is wrong, the key to blame, and the other keys that were looked at."""

    key: Path
    message: str
    looked_at: tuple[Path, ...] = ()


def derive_defaults(recipe: Recipe, given: Set[Path]) -> dict[Path, Any]:
    """Return defaults that follow from other keys, for keys that nobody gave."""
    training, data = recipe.training, recipe.dataset
    derived: dict[Path, Any] = {}
    if "no" in (training.eval_strategy, training.save_strategy):
        derived[LOAD_BEST] = False
    if training.eval_strategy == "steps":
        derived[SAVE_STRATEGY] = "steps"
        derived[EVAL_STEPS] = STEPS_BETWEEN
    save_strategy = training.save_strategy if SAVE_STRATEGY in given else derived.get(SAVE_STRATEGY, "epoch")
    if save_strategy == "steps":
        derived[SAVE_STEPS] = training.eval_steps or STEPS_BETWEEN
    if data.validation_size is not None:
        derived[VALIDATION] = None
    of_method = adapter_defaults(recipe.peft)
    derived.update(of_method)
    may_be_null = {EVAL_STEPS, SAVE_STEPS, *of_method}
    return {
        key: value
        for key, value in derived.items()
        if key not in given or (key in may_be_null and _value(recipe, key) is None)
    }


def name_best_metric(recipe: Recipe) -> str | None:
    """Return the name in records of the metric that decides which model is best; None: nobody named one of ours."""
    task, written = all_tasks().get(recipe.task), recipe.training.metric_for_best_model
    return deciding_name(written, recipe, task) if task is not None and written is not None else None


def find_problems(recipe: Recipe) -> Iterator[Finding]:
    """Yield everything that is wrong with a recipe whose single keys are right; inputs are absolute already."""
    yield from _not_available(recipe)
    yield from _data(recipe)
    yield from _training(recipe)
    yield from (Finding(*fault) for fault in adapter_faults(recipe))
    yield from (Finding(*fault) for fault in emissions_faults(recipe))
    yield from (Finding(*fault) for fault in generation_faults(recipe))
    yield from (Finding(*fault) for fault in bias_faults(recipe))
    yield from _small_gain(recipe)
    yield from _hub(recipe)
    yield from (Finding(key, message) for key, message in missing_inputs(recipe))
    task = all_tasks().get(recipe.task)
    if task is None:
        yield Finding(TASK, _unknown_task(recipe.task))
        task = all_tasks().get(did_you_mean(recipe.task, all_tasks()) or "")
    if task is None:
        return
    yield from _columns(recipe, task)
    yield from _settings(recipe, task)
    yield from _windows(recipe)
    yield from _problem_type(recipe, task)
    yield from _metrics(recipe, task)
    yield from (Finding(*fault) for fault in prompt_faults(recipe, task))


def find_notes(recipe: Recipe, given: Set[Path]) -> Iterator[str]:
    """Yield what is allowed but should be known."""
    training = recipe.training
    if recipe.model.trust_remote_code:
        yield "model.trust_remote_code: Python code that comes with the checkpoint will run on this machine"
    if recipe.model.init == "scratch" and recipe.model.freeze != "none":
        yield f"model.freeze: {recipe.model.freeze} keeps random weights as they are, since model.init is scratch"
    if training.max_steps and ("training", "num_train_epochs") in given and ("training", "max_steps") in given:
        yield f"training.max_steps: {training.max_steps} wins over training.num_train_epochs"
    if training.save_strategy == "no" and not training.load_best_model_at_end and LOAD_BEST not in given:
        yield "training.save_strategy: no, so the model of the last step is kept, not the best one"
    warmup, last = training.warmup_steps, training.max_steps
    if last is not None and warmup >= last:
        yield (
            f"training.warmup_steps: {warmup} with training.max_steps: {last}: the learning rate is still rising when "
            "the run ends"
        )
    if training.seeds is not None and ("training", "seed") in given:
        yield f"training.seed: {training.seed} has no effect with training.seeds"
    yield from adapter_notes(recipe, ("training", "learning_rate") in given)
    if (task := all_tasks().get(recipe.task)) is not None:
        yield from prompt_notes(recipe, task)
    for strategy, steps in ((EVAL_STRATEGY, EVAL_STEPS), (SAVE_STRATEGY, SAVE_STEPS)):
        value = getattr(training, strategy[1])
        if getattr(training, steps[1]) is not None and value != "steps":
            yield f"{dotted(steps)} has no effect with {dotted(strategy)}: {value}"


def _not_available(recipe: Recipe) -> Iterator[Finding]:
    for key, values in VALUES_NOT_AVAILABLE.items():
        chosen = _value(recipe, key)
        for value in chosen if isinstance(chosen, list) else [chosen]:
            if value in values:
                yield Finding(key, f"{value} is {NOT_IN_THIS_VERSION}; leave it out")


def _value(recipe: Recipe, key: Path) -> Any:
    value: Any = recipe
    for name in key:
        value = getattr(value, name)
    return value


def _unknown_task(name: str) -> str:
    known = join_words(all_tasks(), "and")
    near = TASK_NICKNAMES.get(name.lower().replace("_", "-").replace(" ", "-")) or did_you_mean(name, all_tasks())
    if near:
        return f"unknown task {name!r}; did you mean {near}?"
    return f"unknown task {name!r}; this version has {known}"


def _data(recipe: Recipe) -> Iterator[Finding]:
    data = recipe.dataset
    if data.path is None and not data.data_files:
        yield Finding(
            PATH, "missing; give a hub id, a file, a folder or package:, or dataset.data_files", (DATA_FILES,)
        )
    if data.data_files is not None:
        yield from _data_files(recipe)
    if data.streaming:
        yield from _streaming(recipe)
    if data.validation_size is not None and data.splits.validation is not None:
        yield Finding(
            VALIDATION_SIZE,
            f"holds rows of train out, but dataset.splits.validation names {data.splits.validation}; keep one",
            (VALIDATION,),
        )
    elif data.validation_size is not None and "validation" in (data.data_files or {}):
        yield Finding(
            VALIDATION_SIZE,
            "holds rows of train out, but dataset.data_files has validation files; keep one",
            (DATA_FILES,),
        )


def _streaming(recipe: Recipe) -> Iterator[Finding]:
    data = recipe.dataset
    if recipe.preprocessing.return_overflowing_tokens:
        key = ("preprocessing", "return_overflowing_tokens")
        yield Finding(key, "how many windows a stream has is not known beforehand; leave it out", (STREAMING,))
    if recipe.preprocessing.packing:
        key = ("preprocessing", "packing")
        yield Finding(key, "how many rows of a stream fit together is not known beforehand; leave it out", (STREAMING,))
    if recipe.task == "question-answering":
        yield Finding(STREAMING, "how many windows a stream has is not known beforehand; leave it out", (TASK,))
    if data.max_train_samples is not None:
        key = ("dataset", "max_train_samples")
        yield Finding(key, "a stream has no sample drawn beforehand; use training.max_steps", (STREAMING,))
    if data.validation_size is not None:
        yield Finding(
            VALIDATION_SIZE, "no rows can be held out of a stream; name a validation split of its own", (STREAMING,)
        )
    elif data.splits.validation is None:
        yield Finding(VALIDATION, "a stream needs a validation split of its own; name one", (STREAMING,))
    elif data.data_files and not {data.splits.validation, *VALIDATION_WORDS} & data.data_files.keys():
        yield Finding(
            DATA_FILES, "a stream needs a validation split of its own; add its files", (STREAMING, VALIDATION)
        )


def _data_files(recipe: Recipe) -> Iterator[Finding]:
    data = recipe.dataset
    files = data.data_files or {}
    for role in ("train", "validation", "test"):
        split = getattr(data.splits, role)
        # A default name may be absent: then the only file is train, and validation rows are held out of it.
        left_open = (role == "train" == split and len(files) == 1) or role == "validation" == split
        if split is not None and split not in files and not left_open:
            has = f"it has {join_words(files, 'and')}" if files else "it is empty"
            yield Finding(DATA_FILES, f"no files for the {role} split ({split}); {has}", (("dataset", "splits", role),))
    from_disk = data.path is not None and data.path.startswith("/") and data.path not in BUILDERS
    if from_disk:
        yield Finding(DATA_FILES, "given besides dataset.path, which is on this machine; keep one of the two", (PATH,))


def _training(recipe: Recipe) -> Iterator[Finding]:
    training = recipe.training
    if training.eval_strategy == "no":
        if training.load_best_model_at_end:
            yield Finding(LOAD_BEST, "needs evaluations during training, but eval_strategy is no", (EVAL_STRATEGY,))
        if training.early_stopping_patience is not None:
            yield Finding(PATIENCE, "needs evaluations during training, but eval_strategy is no", (EVAL_STRATEGY,))

    if training.seeds == []:
        yield Finding(SEEDS, "holds no seed; name some, as [1, 2, 3], or leave it out")
    seeds = training.seeds or []
    twice = next((seed for number, seed in enumerate(seeds) if seed in seeds[:number]), None)
    if twice is not None:
        yield Finding(SEEDS, f"{twice} is named twice; the same seed gives the same run")


def _hub(recipe: Recipe) -> Iterator[Finding]:
    hub = recipe.hub
    if hub.push_to_hub and recipe.training.seeds is not None:
        message = "would push the model of each seed over the one before; push the one you choose: finetune push RUN"
        yield Finding(PUSH, message, (SEEDS,))
    if hub.hub_model_id is not None and not HUB_ID.fullmatch(hub.hub_model_id):
        yield Finding(("hub", "hub_model_id"), f"{hub.hub_model_id!r} is no name of a repository, as owner/name")


def _small_gain(recipe: Recipe) -> Iterator[Finding]:
    if recipe.emissions.max_g_per_point is None:
        return
    if recipe.training.eval_strategy == "no":
        yield Finding(MAX_G_PER_POINT, "needs evaluations during training, but eval_strategy is no", (EVAL_STRATEGY,))
    best = name_best_metric(recipe)
    if best is not None and best not in BOUNDED_METRICS:
        yield Finding(MAX_G_PER_POINT, without_bounds(best), (BEST_METRIC,))


def _columns(recipe: Recipe, task: Task) -> Iterator[Finding]:
    yield from _roles_of_one_form(recipe, task)
    roles = {column.role: column for column in task.all_columns}
    played: dict[str, str] = {}
    for role, names in recipe.dataset.columns.items():
        key = ("dataset", "columns", role)
        if role not in roles:
            said = nearest_or_all(role, roles, f"{task.name} has")
            if isinstance(names, str) and names in roles:
                said = f"did you mean {names}: {role}?"  # written the wrong way round
            yield Finding(key, f"unknown role; {said}", (TASK,))
        elif isinstance(names, list) and not roles[role].several:
            yield Finding(key, f"takes the name of one column, found a list of {len(names)}", (TASK,))
        for name in [names] if isinstance(names, str) else names:
            other = played.setdefault(name, role)
            if other != role:
                yield Finding(key, f"the column {name} already plays {other}")


def _roles_of_one_form(recipe: Recipe, task: Task) -> Iterator[Finding]:
    """Yield the role that does not go together with one before it, as a text and a prompt do not."""
    forms = [{column.role for column in form} for form in (task.columns, *task.forms)]
    given = [role for role in recipe.dataset.columns if any(role in form for form in forms)]
    for place in range(1, len(given)):
        if not any(form.issuperset(given[: place + 1]) for form in forms):
            ways = join_words(join_words(sorted(form), "and") for form in forms)
            said = f"does not go together with {join_words(given[:place], 'and')}; {task.name} takes {ways}"
            yield Finding(("dataset", "columns", given[place]), said, (TASK,))
            return


def _windows(recipe: Recipe) -> Iterator[Finding]:
    longest, stride = recipe.preprocessing.max_length, ("preprocessing", "doc_stride")
    overlap = recipe.preprocessing.doc_stride
    if longest is not None and overlap >= longest and overlap != all_leaves()[stride].default:
        said = f"{overlap} tokens of overlap, where a window has max_length: {longest}; a half of it is the most"
        yield Finding(stride, said, (TASK, ("preprocessing", "max_length")))


def _settings(recipe: Recipe, task: Task) -> Iterator[Finding]:
    """Yield the settings of other tasks that are given here, where they would do nothing."""
    owners: dict[str, list[str]] = {}
    for other in all_tasks().values():
        for name in other.settings:
            owners.setdefault(name, []).append(other.name)
    for name, tasks in owners.items():
        key = ("preprocessing", name)
        if name not in task.settings and _value(recipe, key) != all_leaves()[key].default:
            yield Finding(key, f"{task.name} has no use for it, but {join_words(tasks, 'and')}; leave it out", (TASK,))


def _problem_type(recipe: Recipe, task: Task) -> Iterator[Finding]:
    kind, training = recipe.dataset.problem_type, recipe.training
    if kind == "auto":
        return
    if kind not in task.problem_types:
        yield Finding(PROBLEM_TYPE, f"{kind} is for text-classification; leave it out for {task.name}", (TASK,))
        return
    if training.class_weights is not None and kind == "regression":
        yield Finding(
            ("training", "class_weights"), "a regression has no classes to weight; leave it out", (PROBLEM_TYPE,)
        )
    if training.label_smoothing_factor and kind != "single_label_classification":
        yield Finding(
            ("training", "label_smoothing_factor"),
            f"needs one label a row, but problem_type is {kind}",
            (PROBLEM_TYPE,),
        )


def _metrics(recipe: Recipe, task: Task) -> Iterator[Finding]:
    asked = recipe.evaluation.metrics or []
    for name in asked:
        if fault := metric_fault(name, recipe, task):
            yield Finding(("evaluation", "metrics"), fault, (TASK, PROBLEM_TYPE))
    best = recipe.training.metric_for_best_model
    if best is not None and deciding_name(best, recipe, task) is None:
        yield Finding(BEST_METRIC, deciding_fault(best, recipe, task), (TASK, PROBLEM_TYPE, ("evaluation", "metrics")))
