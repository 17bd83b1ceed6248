"""Which family of models has a head for which task: what transformers' Auto classes know."""

from __future__ import annotations

from finetune.errors import FinetuneError
from finetune.tasks import Task, all_tasks
from finetune.text import join_words, with_article

# The families that are named when another is to be taken: those with checkpoints of every size and language.
KNOWN_FAMILIES = (
    "bert", "distilbert", "roberta", "deberta-v2", "modernbert", "electra", "openai-gpt", "gpt2", "gpt_neo", "opt",
    "llama", "qwen3", "bart", "t5", "mbart", "mt5",
)  # fmt: skip


def auto_class(task: Task, kind: str, model_type: str) -> str:
    """Return the transformers class that loads a kind of model with the head for a task.

    Raises FinetuneError when the task is not for that kind.
    """
    if kind not in task.auto_classes:
        raise FinetuneError(
            f"model.name_or_path: {with_article(model_type)} model is {kind}, and {task.name} is for "
            f"{join_words(task.auto_classes, 'or')} ones",
            _what_fits(task, kind, model_type),
        )
    return task.auto_classes[kind]


def require_head(task: Task, kind: str, model_type: str, reference: str) -> None:
    """Raise FinetuneError when transformers has no head for a task in a family; no weights are looked at."""
    if not has_head(auto_class(task, kind, model_type), model_type):
        raise FinetuneError(
            f"model.name_or_path: {reference} is {with_article(model_type)} model, which has no head for "
            f"{task.name} in transformers",
            _what_fits(task, kind, model_type),
        )


def has_head(auto: str, model_type: str) -> bool:
    """Tell whether an Auto class of transformers loads a family."""
    import transformers
    from transformers import CONFIG_MAPPING

    if model_type not in CONFIG_MAPPING:
        return True  # code of its own: only loading it tells
    return CONFIG_MAPPING[model_type] in getattr(transformers, auto)._model_mapping


def _what_fits(task: Task, kind: str, model_type: str) -> str:
    """Return which families have a head for the task, and for which tasks this one has one."""
    from transformers import CONFIG_MAPPING

    from finetune.models.architecture import transformer_kind

    def fits(family: str) -> bool:
        config = CONFIG_MAPPING[family]()
        auto = task.auto_classes.get(transformer_kind(config.to_dict()))
        return auto is not None and has_head(auto, family)

    families = [family for family in KNOWN_FAMILIES if family in CONFIG_MAPPING and fits(family)]
    hint = f"Take a checkpoint of another family, for example {join_words(families, 'or')}."
    tasks = [name for name, other in all_tasks().items() if kind in other.auto_classes
             and model_type in CONFIG_MAPPING and has_head(other.auto_classes[kind], model_type)]  # fmt: skip
    return f"{hint} {model_type} does {join_words(tasks, 'and')}." if tasks else hint
