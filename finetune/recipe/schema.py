"""Every setting of a recipe once: its meaning, unit, default and range.

Sections are ours, leaf names are Hugging Face's own wherever one exists. The models only say what one key may
hold; what keys must agree on is in checks.py.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from finetune.recipe.adapter_keys import Peft
from finetune.recipe.bias_keys import BiasProbe
from finetune.recipe.emissions_keys import Emissions
from finetune.recipe.kinds import Count, Positive, RunName, Section, Seed, Share, Text, WholeNumber
from finetune.recipe.preprocessing_keys import Preprocessing
from finetune.recipe.prompt_keys import Prompt

Tracker = Literal[
    "none", "all", "tensorboard", "wandb", "mlflow", "comet_ml", "aim", "clearml", "dvclive", "swanlab", "trackio"
]
Strategy = Literal["no", "epoch", "steps"]
# Entries are checked one by one (bias_keys.py), so that an error can name the item and its key.
_BIAS_SCHEMA = {"anyOf": [{"type": "array", "items": BiasProbe.model_json_schema()}, {"type": "null"}]}


class Model(Section):
    """Which checkpoint to start from, and what of it may change."""

    name_or_path: Text = Field(
        description=(
            "The checkpoint: a hub id, a folder (relative to the recipe), or package:<python "
            "package>/<folder inside it>."
        ),
        examples=["distilbert/distilbert-base-uncased"],
    )
    revision: Text | None = Field(
        default=None,
        description=(
            "Branch, tag or commit on the hub; null takes the newest. The run record holds the resolved commit."
        ),
    )
    init: Literal["pretrained", "scratch"] = Field(
        default="pretrained",
        description=(
            "pretrained loads the weights; scratch keeps the architecture and draws random weights: the "
            "control experiment."
        ),
    )
    freeze: Literal["none", "embeddings", "backbone"] | Count = Field(
        default="none",
        description=(
            "What is not trained: none, embeddings, backbone (all but the head), or a number: the "
            "embeddings and that many lower layers. What is frozen runs without dropout; of a backbone or lower layers "
            "the output is computed once for each row."
        ),
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="Data type in which the weights are held; auto is float32. See also training.mixed_precision.",
    )
    attn_implementation: Literal["eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"] | None = (
        Field(default=None, description="Attention kernel, by transformers' name; null lets transformers choose.")
    )
    trust_remote_code: bool = Field(
        default=False, description="Run Python code that comes with the checkpoint. Only for authors you trust."
    )


class Splits(Section):
    """Which split of the dataset plays which part."""

    train: Text = Field(default="train", description="Name of the split to train on.")
    validation: Text | None = Field(
        default="validation",
        description=(
            "Name of the split to choose the model on. When the data has none, and with null, a share of "
            "train is held out (dataset.validation_size)."
        ),
    )
    test: Text | None = Field(
        default=None,
        description=(
            "Name of the split that is scored once, at the end; null: a labelled split called test is scored too."
        ),
    )


class Dataset(Section):
    """Where the rows come from and what their columns mean."""

    path: Text | None = Field(
        default=None,
        description=(
            "A hub id, a file (csv, tsv, json, jsonl, parquet, arrow, conll, txt) or folder relative to "
            "the recipe, or package:<python package>/<folder inside it>. With data_files it may be left "
            "out or name the format (json, csv …)."
        ),
        examples=["nyu-mll/glue", "data/train.csv"],
    )
    name: Text | None = Field(
        default=None, description="Configuration (subset) of the dataset on the hub.", examples=["sst2"]
    )
    revision: Text | None = Field(
        default=None, description="Branch, tag or commit of the dataset on the hub; null: the newest."
    )
    data_files: dict[Text, Text | list[Text]] | None = Field(
        default=None,
        description="Files by split, relative to the recipe: a file, a pattern with *, or a list of them.",
        examples=[{"train": "a.jsonl", "validation": "b.csv", "test": ["c.parquet", "d/*.parquet"]}],
    )
    splits: Splits = Field(default_factory=Splits)
    validation_size: Share | None = Field(
        default=None,
        description=(
            "Share of train that is held out instead of reading a validation split: seeded, and stratified by "
            "label. null: 0.1."
        ),
    )
    seed: Seed = Field(default=0, description="Fixes splits and samples, apart from training.seed.")
    streaming: bool = Field(
        default=False,
        description=(
            "Read, clean and tokenise the training rows while training, for corpora that do not fit on the disk or "
            "take long to prepare; they are shuffled within windows of 16,384 rows. Needs a validation split."
        ),
    )
    columns: dict[Text, Text | list[Text]] = Field(
        default={},
        description=(
            "Role in the task → name of the column. Roles left out are found by their usual names. A list "
            "of 0/1 columns may stand for a multi-label target."
        ),
        examples=[{"text": "sentence", "label": "label"}],
    )
    problem_type: Literal["auto", "single_label_classification", "multi_label_classification", "regression"] = Field(
        default="auto", description="How labels are read, by transformers' names; auto tells it from the labels."
    )
    max_train_samples: Count | None = Field(
        default=None, description="Train on a sample of this many rows: seeded and stratified, never the first rows."
    )
    max_eval_samples: Count | None = Field(
        default=None,
        description="Evaluate on a sample of this many rows of each evaluation split: seeded and stratified.",
    )


class Training(Section):
    """The training itself; names are those of transformers.TrainingArguments."""

    num_train_epochs: Annotated[float, Field(gt=0, le=10_000)] = Field(
        default=3.0, description="Passes over the training rows."
    )
    max_steps: Count | None = Field(
        default=None, description="Stop after this many steps (optimizer updates); wins over num_train_epochs."
    )
    per_device_train_batch_size: Count = Field(
        default=32, description="Rows in one forward-backward pass on one device."
    )
    per_device_eval_batch_size: Count = Field(default=64, description="Rows in one evaluation batch on one device.")
    gradient_accumulation_steps: Count = Field(default=1, description="Forward-backward passes that make up one step.")
    learning_rate: Annotated[float, Field(gt=0, le=10)] = Field(
        default=2e-5, description="Highest learning rate of the schedule."
    )
    weight_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.01, description="Decoupled weight decay; not applied to biases and norms."
    )
    layerwise_lr_decay: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description=(
            "Factor on the learning rate for each layer further down: the head learns at learning_rate, the top layer "
            "at this times it, the embeddings slowest. null: one rate for all."
        ),
    )
    gradual_unfreezing: Annotated[float, Field(gt=0, le=10_000)] | None = Field(
        default=None,
        description=(
            "Train the head alone at first, then one layer more from the top after every so many epochs, the "
            "embeddings last (ULMFiT). null: all from the first step on."
        ),
    )
    warmup_steps: Annotated[WholeNumber, Field(ge=0)] | Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.06,
        description="Warm-up of the learning rate: a whole number is steps, a number below 1 is a share of all steps.",
    )
    lr_scheduler_type: Literal[
        "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt"
    ] = Field(default="linear", description="Shape of the learning rate over the run, by transformers' names.")
    max_grad_norm: Annotated[float, Field(ge=0)] = Field(
        default=1.0, description="Gradients longer than this are scaled down to it; 0 switches clipping off."
    )
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = Field(
        default="auto",
        description=(
            "Precision of the arithmetic; auto takes bf16 where the processor or GPU has it, fp16 on older GPUs, "
            "else no."
        ),
    )
    train_sampling_strategy: Literal["random", "sequential", "group_by_length"] = Field(
        default="group_by_length",
        description=(
            "Order of the rows; group_by_length batches rows of similar length, which saves padding and energy."
        ),
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Recompute activations in the backward pass: less memory, about a third more time."
    )
    torch_compile: bool = Field(default=False, description="Compile the model first; pays off on long GPU runs only.")
    label_smoothing_factor: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="Share of the target's probability that is spread over all labels."
    )
    class_weights: Literal["balanced"] | Annotated[list[Positive], Field(min_length=1)] | None = Field(
        default=None,
        description=(
            "Weight of each label in the loss: balanced (rare labels count more) or one number a label, "
            "in the order of the label names."
        ),
    )
    eval_strategy: Strategy = Field(
        default="epoch",
        description="When to evaluate during training: no, after each epoch, or every eval_steps steps.",
    )
    save_strategy: Strategy = Field(
        default="epoch", description="When to write a checkpoint. Left out, it follows eval_strategy: steps."
    )
    save_total_limit: Count | None = Field(
        default=2, description="Checkpoints that are kept, besides the best one; null keeps all."
    )
    load_best_model_at_end: bool = Field(
        default=True,
        description=(
            "Keep the model of the best evaluation instead of the last. Left out, false with eval_strategy: no."
        ),
    )
    metric_for_best_model: Text | None = Field(
        default=None,
        description=(
            "What decides which model is best: a metric of the task or of evaluation.metrics (of a path or owner/name "
            "the last part), or loss; null: the task's main metric."
        ),
    )
    early_stopping_patience: Count | None = Field(
        default=None, description="Stop after this many evaluations in a row without a new best."
    )
    logging_steps: Count = Field(default=10, description="Steps between two lines of the log.")
    eval_steps: Count | None = Field(
        default=None, description="Steps between two evaluations, with eval_strategy: steps; null: 100."
    )
    save_steps: Count | None = Field(
        default=None,
        description="Steps between two checkpoints, with save_strategy: steps; null: as eval_steps, else 100.",
    )
    optim: Literal["adamw_torch_fused", "adamw_torch", "sgd", "adafactor"] = Field(
        default="adamw_torch_fused", description="Optimizer, by transformers' names."
    )
    seed: Seed = Field(default=42, description="Fixes the order of the rows, the new head's weights and dropout.")
    seeds: list[Seed] | None = Field(
        default=None,
        description=(
            "Several seeds: one run after the other for each, with one group in their records; wins over seed. "
            "dataset.seed keeps splits and samples the same in all."
        ),
        examples=[[1, 2, 3]],
    )


class Evaluation(Section):
    """What is scored, and against what."""

    metrics: list[Text] | None = Field(
        default=None,
        description=(
            "Metrics besides the task's own: of text generation those of what it writes (rougeL, bleu …), of any other "
            "by name on the hub or as the path of a script; null: the task's own only."
        ),
        examples=[["accuracy", "f1_macro"]],
    )
    baselines: list[Literal["majority", "untrained", "zero_shot", "few_shot"]] = Field(
        default=["majority", "untrained"],
        description=(
            "What to beat: majority (the constant answer), untrained (the model before its first step), zero_shot and "
            "few_shot (what the checkpoint answers when it is asked in words)."
        ),
    )
    prompt: Prompt = Field(default_factory=Prompt)
    confidence: Share = Field(default=0.95, description="Level of the confidence intervals around every score.")
    bias: Annotated[list[dict[str, Any]] | None, WithJsonSchema(_BIAS_SCHEMA)] = Field(
        default=None,
        description=(
            "Probes of bias, the same before and after training, in a phase of their own; each is a mapping with "
            "probe: pairs, swaps or groups, and its keys (docs/audit.md). null: none."
        ),
        examples=[[{"probe": "swaps", "language": "en", "hateful_label": "toxic"}]],
    )


class Tracking(Section):
    """Where else the numbers of the run go."""

    report_to: Tracker | list[Tracker] = Field(
        default="none", description="Experiment trackers, by Accelerate's names: one or a list."
    )
    project: Text | None = Field(default=None, description="Project name in the tracker; null: finetune.")


class Hub(Section):
    """Publishing the trained model."""

    push_to_hub: bool = Field(
        default=False, description="Upload model and card at the end of the run, as finetune push does."
    )
    hub_model_id: Text | None = Field(
        default=None,
        description="Repository to upload to: owner/name, or a name below your own account. null: the run's name.",
        examples=["me/my-model"],
    )
    hub_private_repo: bool = Field(default=True, description="Make a new repository private.")
    license: Text | None = Field(
        default=None,
        description="Licence for the model card, by the Hub's name; null: as the checkpoint's own card says.",
        examples=["apache-2.0"],
    )
    language: Text | list[Text] | None = Field(
        default=None,
        description="Language(s) for the model card, ISO 639; null: as the card of the dataset or checkpoint says.",
        examples=["pt"],
    )


class Recipe(Section):
    """Everything that decides a run."""

    task: Text = Field(
        description="What to fine-tune for, by the Hub's pipeline name.", examples=["text-classification"]
    )
    name: RunName | None = Field(
        default=None,
        description=(
            "Names the run directory: no spaces or slashes, at most 80 characters. null: the recipe's file name."
        ),
        examples=["sst2-distilbert"],
    )
    model: Model
    dataset: Dataset
    preprocessing: Preprocessing = Field(default_factory=Preprocessing)
    peft: Annotated[Peft, BeforeValidator(lambda value: {} if value is None else value)] = Field(default_factory=Peft)
    training: Training = Field(default_factory=Training)
    evaluation: Evaluation = Field(default_factory=Evaluation)
    generation: dict[str, Any] | None = Field(
        default=None,
        description=(
            "How text is generated, by GenerationConfig's names; what is left out is as the checkpoint has it, and "
            "the length 128 tokens where it has none. Saved with the model."
        ),
        examples=[{"max_new_tokens": 64, "num_beams": 4}],
    )
    emissions: Emissions = Field(default_factory=Emissions)
    tracking: Tracking = Field(default_factory=Tracking)
    hub: Hub = Field(default_factory=Hub)
    tags: list[Text] = Field(default=[], description="Words to find the run by.")
    output_dir: Text = Field(
        default="runs",
        description=(
            "Folder of the run directories, relative to where the command runs; default FINETUNE_OUTPUT_DIR, else runs."
        ),
    )
