"""The section evaluation.prompt: how a checkpoint is asked before it is fine-tuned, and what that must agree on."""

from collections.abc import Iterator, Mapping
from string import Formatter
from typing import TYPE_CHECKING

from pydantic import Field

from finetune.recipe.kinds import Count, Section, Text
from finetune.tasks import Task
from finetune.text import did_you_mean, join_words

if TYPE_CHECKING:
    from finetune.recipe.schema import Recipe

PROMPTED = ("zero_shot", "few_shot")
_PROMPT = ("evaluation", "prompt")
TEMPLATE, LABEL_WORDS, CALIBRATE = (*_PROMPT, "template"), (*_PROMPT, "label_words"), (*_PROMPT, "calibrate")

Fault = tuple[tuple[str, ...], str, tuple[tuple[str, ...], ...]]  # key, what is wrong, keys also looked at


class Prompt(Section):
    """How the baselines zero_shot and few_shot ask the checkpoint."""

    template: Text | None = Field(
        default=None,
        description=(
            "A row in words, with the task's roles in braces, the answer's too: that is where the answer stands. "
            "null: the task's own."
        ),
        examples=["{text}\nThe customer wants: {label}"],
    )
    label_words: dict[Text, Text] | None = Field(
        default=None,
        description="Label → the words that stand for it in the template; those left out are the label's own name.",
        examples=[{"pos": "great", "neg": "terrible"}],
    )
    shots: Count = Field(
        default=4,
        description=(
            "Solved examples in the prompt of few_shot: from the training rows only, classes in turn, drawn by "
            "training.seed."
        ),
    )
    calibrate: bool = Field(
        default=False,
        description=(
            "Divide the probability of each label word by what the model gives it when the text says nothing "
            "(contextual calibration)."
        ),
    )


def template_roles(template: str) -> list[str]:
    """Return what stands in braces in a template; raises ValueError where a brace is not closed or holds no name."""
    roles = []
    for _, role, form, conversion in Formatter().parse(template):
        if role is None:
            continue
        if not role.isidentifier() or form or conversion:
            raise ValueError(f"{{{role}}}")
        roles.append(role)
    return roles


def prompt_faults(recipe: "Recipe", task: Task) -> Iterator[Fault]:
    """Yield what is wrong between the template, the label words and the task."""
    prompt = recipe.evaluation.prompt
    if task.candidates is None or task.columns[-1].kind != "label":
        for key, value in ((LABEL_WORDS, prompt.label_words), (CALIBRATE, prompt.calibrate)):
            if value:
                yield key, f"{task.name} has no labels to name; leave it out", (("task",),)
    if prompt.template is not None:
        yield from _template_faults(prompt.template, task)


def _template_faults(template: str, task: Task) -> Iterator[Fault]:
    known = {column.role: column for column in task.all_columns}
    if not task.prompts:
        yield TEMPLATE, f"{task.name} is not asked in words; leave it out", (("task",),)
        return
    try:
        roles = template_roles(template)
    except ValueError as error:
        said = f"{error} is no role" if str(error).startswith("{") else str(error)
        yield TEMPLATE, f"{said}; write roles in braces, {{{{ and }}}} for braces of the text", ()
        return
    for role in roles:
        if role not in known:
            near = did_you_mean(role, known)
            has = f"did you mean {{{near}}}?" if near else f"{task.name} has {join_words(known, 'and')}"
            yield TEMPLATE, f"unknown role {{{role}}}; {has}", (("task",),)
            return
    if not any(not known[role].target for role in roles):
        inputs = join_words((f"{{{column.role}}}" for column in task.inputs), "or")
        yield TEMPLATE, f"says nothing of the row; put {inputs} into it", ()
    if sum(known[role].target for role in roles) > 1:
        yield TEMPLATE, "has the answer in it twice; keep one", ()
    elif task.candidates is None and any(known[role].target for role in roles[:-1]):
        yield TEMPLATE, f"{task.name} writes its answer, which must come last", (("task",),)


def prompt_notes(recipe: "Recipe", task: Task) -> Iterator[str]:
    """Yield which of the baselines asked for will be null, where the recipe alone tells."""
    asked = [name for name in PROMPTED if name in recipe.evaluation.baselines]
    kind = recipe.dataset.problem_type
    reasons = {task.unprompted.get(name) for name in (task.problem_types if kind == "auto" else (kind,))}
    reason = reasons.pop() if len(reasons) == 1 else None
    if recipe.model.init == "scratch":
        reason = reason or SCRATCH
    for name in asked:
        if reason is not None:
            yield f"evaluation.baselines: {name} will be null: {reason}"


SCRATCH = "model.init is scratch, and random weights know no words"


def label_words(names: tuple[str, ...], given: Mapping[str, str] | None) -> dict[str, str]:
    """Return the words that stand for each label: the given ones, else its name with blanks for underscores."""
    return {name: (given or {}).get(name) or name.replace("_", " ") for name in names}
