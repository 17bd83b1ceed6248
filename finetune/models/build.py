"""Build the tokenizer and the model of a recipe: from a checkpoint or from scratch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.console import someone_watches
from finetune.errors import FinetuneError
from finetune.hub import causes, connection_problem
from finetune.models.adapters import add_adapters
from finetune.models.architecture import max_positions, transformer_kind
from finetune.models.freezing import freeze
from finetune.models.heads import auto_class, require_head
from finetune.package_paths import is_package_path, resolve_package_path

if TYPE_CHECKING:
    from finetune.recipe.adapter_keys import Peft
    from finetune.recipe.schema import Model as ModelSettings
    from finetune.tasks import LabelScheme, Task

# What a tokenizer says when it was saved without a limit (int(1e30) in transformers).
_NO_LIMIT = 1_000_000
# Those that a configuration of transformers may name.
PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")


@dataclass(frozen=True)
class Checkpoint:
    """The light half of a checkpoint: where it is, its configuration and its tokenizer."""

    reference: str
    source: str  # a folder, or the hub id
    revision: str | None
    config: Any
    tokenizer: Any
    kind: str
    notes: tuple[str, ...] = ()

    @property
    def model_type(self) -> str:
        """Return the family's name in transformers."""
        return str(self.config.model_type)

    def max_length(self, wanted: int | None, key: str = "max_length") -> int:
        """Return the longest input in tokens: what the recipe asks, else what model and tokenizer can take.

        Raises FinetuneError when the recipe asks for more positions than the model has.
        """
        positions = max_positions(self.config.to_dict())
        if wanted and positions and wanted > positions:
            raise FinetuneError(
                f"preprocessing.{key}: {wanted} is more than the {positions} positions of {self.reference}",
                f"Set preprocessing.{key} to {positions} or less, or leave it out.",
            )
        limits = [n for n in (positions, self.tokenizer.model_max_length) if n and n < _NO_LIMIT]
        return wanted or min(limits, default=512)


def open_checkpoint(settings: ModelSettings) -> Checkpoint:
    """Load configuration and tokenizer of the recipe's checkpoint; raises FinetuneError when it cannot be found."""
    from transformers import AutoConfig, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()  # what it reports about new weights is said in our own words
    if not someone_watches():
        logging.disable_progress_bar()
    reference = settings.name_or_path
    source = str(resolve_package_path(reference)) if is_package_path(reference) else reference
    if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
        raise FinetuneError(f"model.name_or_path: {reference} holds no config.json", "Name the folder of a checkpoint.")
    options: dict[str, Any] = {"trust_remote_code": settings.trust_remote_code}
    if settings.revision:
        options["revision"] = settings.revision
    try:
        config = AutoConfig.from_pretrained(source, **options)
        revision = _commit_loaded(source, settings.revision)
        if revision:
            options["revision"] = revision  # tokenizer and weights of the same commit
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _not_loaded(reference, error, settings.revision) from error
    tokenizer, notes = _with_pad_token(tokenizer)
    return Checkpoint(reference, source, revision, config, tokenizer, transformer_kind(config.to_dict()), notes)


def _commit_loaded(source: str, revision: str | None) -> str | None:
    """Return the commit of the hub that the configuration was just loaded from; None for a folder.

    transformers 5 no longer keeps it in the configuration, but the path in the cache names it.
    """
    from huggingface_hub import try_to_load_from_cache

    if Path(source).is_dir():
        return None
    found = try_to_load_from_cache(source, "config.json", revision=revision)
    return Path(found).parent.name if isinstance(found, str) else None


def _with_pad_token(tokenizer: Any) -> tuple[Any, tuple[str, ...]]:
    """Give a tokenizer of GPT's kind the padding token it lacks.

    The end-of-text token serves where there is one: padding is masked by position, so it is never mistaken
    for a real end of text.
    """
    if tokenizer.pad_token is not None:
        return tokenizer, ()
    if tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token
    else:
        tokenizer.add_special_tokens({"pad_token": "<pad>"})
    return tokenizer, (f"the tokenizer has no padding token; {tokenizer.pad_token!r} is used",)


def build_model(
    checkpoint: Checkpoint, settings: ModelSettings, task: Task, labels: LabelScheme, peft: Peft | None = None
) -> tuple[Any, tuple[str, ...]]:
    """Return the model with the task's head, in float32 on the CPU, and notes about what was not in the file.

    With `peft` it has adapters, and nothing else but the new weights is trained.

    init: pretrained loads safetensors weights only; init: scratch draws random weights of the same architecture
    (seed torch first). Raises FinetuneError when the family has no head for the task or the weights cannot be read.
    """
    import torch
    import transformers

    if not settings.trust_remote_code:
        require_head(task, checkpoint.kind, checkpoint.model_type, checkpoint.reference)
    auto = getattr(transformers, auto_class(task, checkpoint.kind, checkpoint.model_type))
    config = _head_config(checkpoint, labels)
    options: dict[str, Any] = {"trust_remote_code": settings.trust_remote_code}
    if settings.attn_implementation:
        options["attn_implementation"] = settings.attn_implementation
    try:
        if settings.init == "scratch":
            model = auto.from_config(config, dtype=torch.float32, **options)
            new: list[str] = []
        else:
            model, new = _load_weights(auto, checkpoint, config, options)
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise _not_loaded(checkpoint.reference, error) from error
    if len(checkpoint.tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(checkpoint.tokenizer))
    if getattr(model.config, "use_cache", False):
        model.config.use_cache = False  # keys and values are of use for generating; here they are copied for nothing
    notes = _new_weights_note(model, new)
    freeze(model, settings.freeze)
    if peft is not None and peft.method is not None:
        add_adapters(model, peft, new)
    return model, notes


def _head_config(checkpoint: Checkpoint, labels: LabelScheme) -> Any:
    config = checkpoint.config
    if labels.names or labels.problem_type in PROBLEM_TYPES:
        names = labels.names or ("value",)
        config.id2label = dict(enumerate(names))
        config.label2id = {name: index for index, name in enumerate(names)}
    else:
        config.num_labels = 2  # transformers' default, which a head for other labels changed; spans have two ends
    if labels.problem_type in PROBLEM_TYPES:
        config.problem_type = labels.problem_type
    tokenizer = checkpoint.tokenizer
    # Models that know it leave the embedding of the padding token untrained; a real end of text must be learned.
    if labels.problem_type in PROBLEM_TYPES or tokenizer.pad_token_id != tokenizer.eos_token_id:
        config.pad_token_id = tokenizer.pad_token_id
    return config


def _load_weights(auto: Any, checkpoint: Checkpoint, config: Any, options: dict[str, Any]) -> tuple[Any, list[str]]:
    """Return the model and the names of its weights that the checkpoint does not hold."""
    import torch
    import transformers

    load = {
        "revision": checkpoint.revision or "main",
        "dtype": torch.float32,
        "use_safetensors": True,
        "output_loading_info": True,
        **options,
    }
    # A head trained for other labels is replaced, and said below.
    model, report = auto.from_pretrained(checkpoint.source, config=config, ignore_mismatched_sizes=True, **load)
    new = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    prefix = f"{model.base_model_prefix}."
    body = {f"{prefix}{name}" for name in model.base_model.state_dict()}
    if model.base_model is not model and body <= new:
        # transformers 5.23 looks for the weights of the kinds of Llama and Qwen under `transformer.` for question
        # answering, where no checkpoint has them; the class without a head finds them.
        found, report = transformers.AutoModel.from_pretrained(checkpoint.source, **load)
        model.base_model.load_state_dict(found.state_dict())
        new = (new - body) | {f"{prefix}{name}" for name in report["missing_keys"]}
    return model, sorted(new)


def _new_weights_note(model: Any, new: list[str]) -> tuple[str, ...]:
    if not new:
        return ()
    share = sum(model.get_parameter(key).numel() for key in new if key in dict(model.named_parameters())) / sum(
        parameter.numel() for parameter in model.parameters()
    )
    words = ", ".join(new[:4]) + (f" and {len(new) - 4} more" if len(new) > 4 else "")
    part = f"{100 * share:.2g} % of the model"
    return (f"new weights, not in the checkpoint, start at random and are learned here ({part}): {words}",)


def _not_loaded(reference: str, error: Exception, revision: str | None = None) -> FinetuneError:
    text = str(error).strip().splitlines()
    if revision and "not a valid git identifier" in str(error):
        return FinetuneError(
            f"model.revision: {reference} has no revision {revision}", "Leave model.revision out to take the newest."
        )
    if "gated repo" in str(error):
        return FinetuneError(
            f"model.name_or_path: {reference} is gated: its owners grant access one by one",
            f"Ask for access at https://huggingface.co/{reference}, then: hf auth login",
        )
    if broken := connection_problem(error):
        return FinetuneError(f"model.name_or_path: {reference} could not be loaded: {broken[0]}", broken[1])
    reason = text[0] if text else type(error).__name__
    if {"OfflineModeIsEnabled", "LocalEntryNotFoundError"} & {type(cause).__name__ for cause in causes(error)}:
        reason = "there is no connection to the hub, and it is not in the cache"
    if "safetensors" in str(error):
        hint = "Only safetensors weights are loaded; convert the checkpoint with its save_pretrained and try again."
    elif "trust_remote_code" in str(error):
        hint = (
            "This checkpoint runs code of its own; set model.trust_remote_code: true only if you have read that code."
        )
    else:
        hint = (
            "Check the name; without a network name a folder, or package:<python package>/<folder>. "
            "`finetune doctor` checks the hub."
        )
    return FinetuneError(f"model.name_or_path: {reference} could not be loaded: {reason}", hint)
