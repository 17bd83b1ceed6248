"""Each of these recipes has one mistake and must get one clear error, with its line and what to do instead."""

import pytest

from finetune.errors import FinetuneError
from finetune.recipe.load import load_recipe

HEAD = "task: text-classification\n"
MODEL = "model: {name_or_path: a/b}\n"
DATA = "dataset: {path: c/d}\n"
START = HEAD + MODEL + DATA  # three lines: the mistake begins on line 4

TRAINING = [
    ("learing_rate: 2e-5", "training.learing_rate: unknown key; did you mean learning_rate?"),
    ("learning_rate: fast",
     "training.learning_rate: expected a number above 0 and at most 10, found the text 'fast'"),
    ("learning_rate: -1", "training.learning_rate: expected a number above 0 and at most 10, found the number -1"),
    ("learning_rate: 2e5",
     "training.learning_rate: expected a number above 0 and at most 10, found the number 200000.0"),
    ("learning_rate: .nan", "training.learning_rate: expected a number above 0 and at most 10, found the number nan"),
    ("learning_rate: 2,5e-5",
     "training.learning_rate: expected a number above 0 and at most 10, found the text '2,5e-5'; write 2.5e-5"),
    ("learning_rate: [1e-5, 2e-5]", "training.learning_rate: expected a number above 0 and at most 10, found a list"),
    ("learning_rate:",
     "training.learning_rate: expected a number above 0 and at most 10, found nothing (null)"),
    ("num_train_epochs: true", "training.num_train_epochs: expected a number above 0 and at most 10000, found true"),
    ("num_train_epochs: 0",
     "training.num_train_epochs: expected a number above 0 and at most 10000, found the number 0"),
    ("num_train_epochs: 1e308",
     "training.num_train_epochs: expected a number above 0 and at most 10000, found the number 1e+308"),
    ("metric_for_best_model: f1", "training.metric_for_best_model: f1 is not scored; did you mean f1_macro?"),
    ("max_steps: 1_000",
     "training.max_steps: expected a whole number at least 1 or null, found the text '1_000'; write 1000"),
    ("per_device_train_batch_size: 2.5",
     "training.per_device_train_batch_size: expected a whole number at least 1, found the number 2.5"),
    ("warmup_steps: 1.5",
     "training.warmup_steps: expected a whole number at least 0 or a number at least 0 and below 1, "
     "found the number 1.5"),
    ("warmup_ratio: 6", "training.warmup_ratio: expected a number at least 0 and below 1, found the number 6"),
    ("group_by_length: yes", "training.group_by_length: expected true or false, found the text 'yes'"),
    ("gradient_checkpointing: yes",
     "training.gradient_checkpointing: expected true or false, found the text 'yes'; write true"),
    ("mixed_precision: bf61", "training.mixed_precision: expected auto, no, bf16 or fp16, found the text 'bf61'; "
     "did you mean bf16?"),
    ("eval_strategy: false", "training.eval_strategy: expected no, epoch or steps, found false; did you mean no?"),
    ("lr_scheduler_type: warmup_stable_decay",
     "training.lr_scheduler_type: warmup_stable_decay is not available in this version; expected linear, cosine, "
     "cosine_with_restarts, polynomial, constant, constant_with_warmup or inverse_sqrt"),
    ("class_weights: [1, -2]",
     "training.class_weights: expected balanced, a list of numbers above 0 or null, found the number -2 as item 2"),
    ("seed: -1", "training.seed: expected a whole number from 0 to 4294967295, found the number -1"),
    ("seeds: [1, 2, 1]", "training.seeds: 1 is named twice; the same seed gives the same run"),
    ("seeds: []", "training.seeds: holds no seed; name some, as [1, 2, 3], or leave it out"),
    ("seeds: 3",
     "training.seeds: expected a list of whole numbers from 0 to 4294967295 or null, found the number 3"),
    ("fp16: true", "training.fp16: unknown key; write training.mixed_precision: fp16"),
    ("max_length: 12", "training.max_length: unknown key; did you mean preprocessing.max_length?"),
    ("metric_for_best_model: eval_acuracy",
     "training.metric_for_best_model: eval_acuracy is not scored; did you mean accuracy?"),
    ("{eval_strategy: no, load_best_model_at_end: true}",
     "training.load_best_model_at_end: needs evaluations during training, but eval_strategy is no"),
    ("{eval_strategy: no, early_stopping_patience: 2}",
     "training.early_stopping_patience: needs evaluations during training, but eval_strategy is no"),
    ("[1, 2]", "training: expected a mapping (indented lines of key: value), found a list"),
]  # fmt: skip

SECTIONS = [
    ("learning_rate: 1e-5", "learning_rate: unknown key at top level; did you mean training.learning_rate?"),
    ("learing_rate: 1e-5", "learing_rate: unknown key at top level; did you mean training.learning_rate?"),
    ("seed: 1", "seed: unknown key at top level; did you mean dataset.seed or training.seed?"),
    ("training.seed: 1", "training.seed: unknown key; write seed: inside training:"),
    ("trainig: {seed: 1}", "trainig: unknown key; did you mean training?"),
    ("colour: red", "colour: unknown key at top level"),
    ("lora_r: 8", "lora_r (peft.r): needs peft.method; write method: lora"),
    ("peft: {target_modules: [query]}", "peft.target_modules: needs peft.method; write method: lora or ia3"),
    ("peft: lora", "peft: expected a mapping (indented lines of key: value), found the text 'lora'"),
    ("peft: {method: lore}", "peft.method: expected lora, ia3 or null, found the text 'lore'; did you mean lora?"),
    ("peft: {method: dora}",
     "peft.method: dora: write method: lora and use_dora: true; expected lora, ia3 or null"),
    ("peft_type: PREFIX_TUNING",
     "peft_type (peft.method): prefix_tuning: it cannot be merged into the weights; expected lora, ia3 or null"),
    ("peft: {method: ia3, r: 8}", "peft.r: a key of lora, but peft.method is ia3; leave it out"),
    ("peft: {method: lora, feedforward_modules: [dense]}",
     "peft.feedforward_modules: a key of ia3, but peft.method is lora; leave it out"),
    ("peft: {method: lora, rank: 8}", "peft.rank: unknown key; did you mean peft.r?"),
    ("peft: {method: lora, r: 0}", "peft.r: expected a whole number at least 1 or null, found the number 0"),
    ("peft: {method: lora, target_modules: 'h.(a'}",
     "peft.target_modules: not a regular expression: missing ), unterminated subpattern at position 2; or give a list "
     "of names"),
    ("peft: {method: lora, target_modules: []}",
     "peft.target_modules: expected a text, a list of texts or null, found a list"),
    ("training: {gradual_unfreezing: 1}\npeft: {method: lora}",
     "training.gradual_unfreezing: peft keeps the layers frozen to the end; leave one of the two out"),
    ("peft: {method: lora, r: 4, lora_r: 4}",
     "peft.lora_r (peft.r): sets the same as peft.r on line 4; keep one"),
    ("name: a/b", "name: expected a text that can name a folder: no spaces, slashes or wildcards, "
     "at most 80 characters or null, found the text 'a/b'"),
    ("name: 2024", "name: expected a text that can name a folder: no spaces, slashes or wildcards, "
     "at most 80 characters or null, found the number 2024; put it in quotes"),
    ("tags: fast", "tags: expected a list of texts, found the text 'fast'"),
    ("output_dir: ${HOME}/runs",
     "output_dir: variables and ~ are not expanded in a recipe: '${HOME}/runs'; write the path out, "
     "or give it on the command line"),
    ("evaluation: {metrics: [acc]}", "evaluation.metrics: unknown metric acc; did you mean accuracy?"),
    ("evaluation: {metrics: [macro_f1]}", "evaluation.metrics: unknown metric macro_f1; did you mean f1_macro?"),
    ("evaluation: {metrics: [f1]}",
     "evaluation.metrics: f1 needs an average: f1_macro, f1_micro or f1_weighted; did you mean f1_macro?"),
    ("evaluation: {metrics: [precision]}",
     "evaluation.metrics: precision needs an average: precision_macro, precision_micro or precision_weighted; "
     "did you mean precision_macro?"),
    ("output_dir: data/train.csv",
     "output_dir: data/train.csv is a file; expected a folder, which is made when it is not there"),
    ("output_dir: data/train.csv/runs",
     "output_dir: data/train.csv is a file; expected a folder, which is made when it is not there"),
    ("evaluation: {prompt: {template: '{text} {labell}'}}",
     "evaluation.prompt.template: unknown role {labell}; did you mean {label}?"),
    ("evaluation: {prompt: {template: 'what is it? {label}'}}",
     "evaluation.prompt.template: says nothing of the row; put {text} or {text_pair} into it"),
    ("evaluation: {prompt: {template: '{text} {label} {label}'}}",
     "evaluation.prompt.template: has the answer in it twice; keep one"),
    ("evaluation: {prompt: {template: '{text} {'}}",
     "evaluation.prompt.template: Single '{' encountered in format string; write roles in braces, {{ and }} for braces "
     "of the text"),
    ("evaluation: {prompt: {template: '{text:3} {label}'}}",
     "evaluation.prompt.template: {text} is no role; write roles in braces, {{ and }} for braces of the text"),
    ("evaluation: {prompt: {label_words: {good: 1}}}",
     "evaluation.prompt.label_words.good: expected a text, found the number 1; put it in quotes"),
    ("evaluation: {baselines: [majorty]}",
     "evaluation.baselines: expected a list of majority, untrained, zero_shot or few_shot, "
     "found the text 'majorty' as item 1; did you mean majority?"),
    ("emissions: {country_iso_code: br}",
     "emissions.country_iso_code: expected three upper-case letters, as BRA or null, found the text 'br'"),
    ("emissions: {region: quebec}",
     "emissions.region: a region needs its country; give emissions.country_iso_code too"),
    ("emissions: {wue: -1}", "emissions.wue: expected a number at least 0 or null, found the number -1"),
    ("emissions: {embodied_kg: 150}",
     "emissions.embodied_kg: needs the hours that the machine will serve: emissions.embodied_lifetime_h"),
    ("emissions: {embodied_lifetime_h: 35040}",
     "emissions.embodied_lifetime_h: has no effect without emissions.embodied_kg; give both"),
    ("emissions: {embodied_share: 0.25}",
     "emissions.embodied_share: has no effect without emissions.embodied_kg; give both"),
    ("emissions: {embodied_kg: 150, embodied_lifetime_h: 35040, embodied_share: 1.5}",
     "emissions.embodied_share: expected a number above 0 and at most 1, found the number 1.5"),
    ("emissions: {pue: 0.9}", "emissions.pue: expected a number at least 1, found the number 0.9"),
    ("emissions: {max_energy_kwh: 0}",
     "emissions.max_energy_kwh: expected a number above 0 or null, found the number 0"),
    ("emissions: {max_g_per_point: -1}",
     "emissions.max_g_per_point: expected a number above 0 or null, found the number -1"),
    ("emissions: {max_emissions_g: 50g}",
     "emissions.max_emissions_g: expected a number above 0 or null, found the text '50g'"),
    ("hub: {push_to_hub: true}\ntraining: {seeds: [1, 2]}",
     "hub.push_to_hub: would push the model of each seed over the one before; push the one you choose: "
     "finetune push RUN"),
    ("hub: {hub_model_id: a/b/c}", "hub.hub_model_id: 'a/b/c' is no name of a repository, as owner/name"),
    ("preprocessing: {packing: true}",
     "preprocessing.packing: text-classification has no use for it, but fill-mask and text-generation; leave it out"),
]  # fmt: skip

WHOLE = [
    (MODEL + DATA, "1: task: missing; for example task: text-classification"),
    (HEAD + DATA, "1: model.name_or_path: missing; for example name_or_path: distilbert/distilbert-base-uncased"),
    (HEAD + "model:\n  revision: main\n" + DATA,
     "2: model.name_or_path: missing; for example name_or_path: distilbert/distilbert-base-uncased"),
    (HEAD + MODEL, "1: dataset.path: missing; give a hub id, a file, a folder or package:, or dataset.data_files"),
    ("task: text-clasification\n" + MODEL + DATA,
     "1: task: unknown task 'text-clasification'; did you mean text-classification?"),
    ("task: cooking\n" + MODEL + DATA, "1: task: unknown task 'cooking'; this version has fill-mask, multiple-choice, "
     "question-answering, text2text-generation, summarization, translation, text-classification, text-generation and "
     "token-classification"),
    (HEAD + "model: {name_or_path: ''}\n" + DATA,
     "2: model.name_or_path: expected a text, not empty, found the text ''"),
    (HEAD + "model: {name_or_path: a/b, freeze: 0}\n" + DATA,
     "2: model.freeze: expected none, embeddings, backbone or a whole number at least 1, found the number 0"),
    (HEAD + "model: {name_or_path: a/b, freeze: embedings}\n" + DATA,
     "2: model.freeze: expected none, embeddings, backbone or a whole number at least 1, found the text 'embedings'; "
     "did you mean embeddings?"),
    (HEAD + "model: {name_or_path: a/b, dtype: bfloat16}\n" + DATA,
     "2: model.dtype: bfloat16 is not available in this version; leave it out"),
    (HEAD + "model: {name_or_path: 'not a name'}\n" + DATA,
     "2: model.name_or_path: 'not a name' is neither a hub id (owner/name), a path nor "
     "package:<python package>/<folder>"),
    (HEAD + "model: {name_or_path: ./models/tinny}\n" + DATA,
     "2: model.name_or_path: {folder}/models/tinny does not exist; did you mean {folder}/models/tiny?"),
    (HEAD + "model: {name_or_path: models/empty}\n" + DATA,
     "2: model.name_or_path: {folder}/models/empty holds no config.json; expected the folder of a checkpoint"),
    (HEAD + "model: {name_or_path: data/train.csv}\n" + DATA,
     "2: model.name_or_path: {folder}/data/train.csv is a file; expected the folder of a checkpoint"),
    (HEAD + "model: {name_or_path: package:no_such_package/model}\n" + DATA,
     "2: model.name_or_path: package:no_such_package/model: the Python package no_such_package is not installed "
     "(pip install no-such-package)"),
    (HEAD + "model: {name_or_path: package:yaml/../pip}\n" + DATA,
     "2: model.name_or_path: package:yaml/../pip: the path leaves the package yaml "
     "(Name a folder inside the package.)"),
    (HEAD + MODEL + "dataset:\n  path: data/trian.csv\n",
     "4: dataset.path: {folder}/data/trian.csv does not exist; did you mean {folder}/data/train.csv?"),
    (HEAD + MODEL + "dataset:\n  path: ~/train.csv\n",
     "4: dataset.path: variables and ~ are not expanded in a recipe: '~/train.csv'; write the path out, "
     "or give it on the command line"),
    (HEAD + MODEL + "dataset:\n  path: /\n",
     "4: dataset.path: / is the whole file system; name the file or the folder that is meant"),
    (HEAD + MODEL + "dataset:\n  path: s3://bucket/train.csv\n",
     "4: dataset.path: s3://bucket/train.csv is an address; expected a hub id, a path on this machine or package:…"),
    (HEAD + MODEL + "dataset:\n  path: https://huggingface.co/datasets/nyu-mll/glue\n",
     "4: dataset.path: https://huggingface.co/datasets/nyu-mll/glue is an address; did you mean nyu-mll/glue?"),
    (HEAD + MODEL + "dataset:\n  path: https://huggingface.co/datasets/imdb/tree/main\n",
     "4: dataset.path: https://huggingface.co/datasets/imdb/tree/main is an address; did you mean imdb?"),
    (HEAD + MODEL + "dataset:\n  path: /dev/null\n",
     "4: dataset.path: /dev/null is a device or a pipe; expected a file or a folder"),
    (HEAD + MODEL + "dataset:\n  data_files: {train: https://a.org/t.csv}\n",
     "4: dataset.data_files.train: https://a.org/t.csv is an address, not a file; download it first: "
     "curl -LO https://a.org/t.csv"),
    (HEAD + MODEL + "dataset:\n  data_files: {train: data}\n",
     "4: dataset.data_files.train: {folder}/data is a folder; name files, such as {folder}/data/test.csv, or write "
     "dataset.path: {folder}/data instead of data_files"),
    (HEAD + MODEL + "dataset:\n  path: csv\n",
     "4: dataset.path: csv names a format; say which files in dataset.data_files"),
    (HEAD + MODEL + "dataset:\n  data_files:\n    train: data/train.csv\n    test: data/missing*.csv\n",
     "6: dataset.data_files.test: no file fits {folder}/data/missing*.csv"),
    (HEAD + MODEL + "dataset:\n  data_files: {train: data/train.csv}\n  splits: {test: test}\n",
     "4: dataset.data_files: no files for the test split (test); it has train"),
    (HEAD + MODEL + "dataset:\n  data_files: data/train.csv\n",
     "4: dataset.data_files: expected a mapping (key: value) or null, found the text 'data/train.csv'"),
    (HEAD + MODEL + "dataset:\n  path: data/train.csv\n  data_files: {train: data/train.csv}\n",
     "5: dataset.data_files: given besides dataset.path, which is on this machine; keep one of the two"),
    (HEAD + MODEL + "dataset:\n  path: c/d\n  columns:\n    txt: sentence\n",
     "6: dataset.columns.txt: unknown role; did you mean text?"),
    (HEAD + MODEL + "dataset:\n  path: c/d\n  columns:\n    sentence: text\n",
     "6: dataset.columns.sentence: unknown role; did you mean text: sentence?"),
    (HEAD + MODEL + "dataset:\n  path: c/d\n  columns:\n    audio: file\n",
     "6: dataset.columns.audio: unknown role; text-classification has text, text_pair and label"),
    (HEAD + MODEL + "dataset:\n  path: c/d\n  columns:\n    text: [a, b]\n",
     "6: dataset.columns.text: takes the name of one column, found a list of 2"),
    (HEAD + MODEL + "dataset:\n  path: c/d\n  columns:\n    text: 3\n",
     "6: dataset.columns.text: expected a text or a list of texts, found the number 3; put it in quotes"),
    (HEAD + MODEL + "dataset:\n  path: c/d\n  columns:\n    text: a\n    label: a\n",
     "7: dataset.columns.label: the column a already plays text"),
    (HEAD + MODEL + "dataset:\n  path: c/d\n  validation_size: 20\n",
     "5: dataset.validation_size: expected a number above 0 and below 1 or null, found the number 20"),
    (HEAD + MODEL + "dataset:\n  path: c/d\n  validation_size: 20%\n",
     "5: dataset.validation_size: expected a number above 0 and below 1 or null, found the text '20%'; write 0.2"),
    (HEAD + MODEL + "dataset:\n  path: c/d\n  validation_size: 0.2\n  splits:\n    validation: dev\n",
     "5: dataset.validation_size: holds rows of train out, but dataset.splits.validation names dev; keep one"),
    (HEAD + MODEL + "dataset:\n  path: c/d\n  streaming: true\n  max_train_samples: 9\n",
     "6: dataset.max_train_samples: a stream has no sample drawn beforehand; use training.max_steps"),
    (HEAD + MODEL + "dataset:\n  path: c/d\n  streaming: true\n  splits: {validation: null}\n",
     "6: dataset.splits.validation: a stream needs a validation split of its own; name one"),
    (START + "dataset_name: e/f\n",
     "4: dataset_name (dataset.path): sets the same as dataset.path on line 3; keep one"),
    (START + "training:\n  lr: 1e-5\n  learning_rate: 2e-5\n",
     "6: training.learning_rate: sets the same as training.lr on line 5; keep one"),
    (HEAD + MODEL + "dataset: {path: c/d, problem_type: regression}\ntraining:\n  class_weights: balanced\n",
     "5: training.class_weights: a regression has no classes to weight; leave it out"),
    (HEAD + MODEL + "dataset: {path: c/d, problem_type: regression}\ntraining:\n  label_smoothing_factor: 0.1\n",
     "5: training.label_smoothing_factor: needs one label a row, but problem_type is regression"),
    (HEAD + MODEL + "dataset: {path: c/d, problem_type: regression}\nevaluation:\n  metrics: [accuracy]\n",
     "5: evaluation.metrics: accuracy is not a metric of regression, which has pearson, spearman, mse and mae"),
    (HEAD + MODEL + "dataset: {path: c/d, problem_type: regression}\ntraining:\n  metric_for_best_model: accuracy\n",
     "5: training.metric_for_best_model: accuracy is not scored; this recipe scores pearson, spearman, mse, mae "
     "and loss"),
    (START + "training: {eval_strategy: no}\nemissions: {max_g_per_point: 1}\n",
     "5: emissions.max_g_per_point: needs evaluations during training, but eval_strategy is no"),
    (START + "training: {metric_for_best_model: loss}\nemissions: {max_g_per_point: 1}\n",
     "5: emissions.max_g_per_point: loss has no bounds that are known, and so no points that a gain could be "
     "counted in"),
]  # fmt: skip

YAML = [
    ("", ": is empty; finetune init writes a first recipe"),
    ("# only a comment\n", ": is empty; finetune init writes a first recipe"),
    ("- task\n", "1: expected a mapping (lines of key: value), found a list"),
    ("text-classification\n", "1: expected a mapping (lines of key: value), found the text 'text-classification'"),
    (START + "training:\n\tseed: 1\n", "5: not YAML: a tab cannot indent; use spaces"),
    (START + "task: text-classification\n", "4: the key task is already on line 1; keep one"),
    (START + "training: {seed: 1, seed: 2}\n", "4: the key seed is already on line 4; keep one"),
    (START + "training: &t {seed: 1}\n",
     "4: anchors and aliases (&t, *t) are not part of a recipe; write the value out"),
    (START + "training:\n  <<: {seed: 1}\n", "5: merge keys (<<) are not part of a recipe; write the settings out"),
    (START + "name: !!python/object:os.system x\n",
     "4: tags (tag:yaml.org,2002:python/object:os.system) are not part of a recipe; write the plain value"),
    (START + "---\ntask: x\n", "4: a second document begins here (---); a recipe is one document"),
    (START + "tags: " + "[" * 40 + "]" * 40 + "\n", "4: nested more than 12 levels deep; a recipe needs four"),
    (START + "tags: " + "[" * 20000 + "\n", "4: nested more than 12 levels deep; a recipe needs four"),
    (START + "? [a, b]\n: 1\n", "4: a key must be a word, not a list or a mapping"),
    (START + "training:\n  seed 1\n  max_steps: 2\n", "6: not YAML: a colon is missing on the line above (seed 1)"),
    (START + "training:\n  seed: 1\n   max_steps: 2\n",
     "6: not YAML: a second ': ' in this line, or the wrong indentation; put texts that hold ': ' in quotes"),
    (START + "training:\n    seed: 1\n  max_steps: 2\n",
     "6: not YAML: the indentation does not fit the lines above"),
    (START + "tags: [a, *.csv]\n",
     "4: not YAML: a value that begins with * or & must be in quotes, as in '*.csv'"),
    (START + "name: a\x07b\n", "4: the character U+0007 is not allowed in YAML"),
]  # fmt: skip


TRANSLATION = START.replace("text-classification", "translation")

GENERATION = [
    ("generation: {num_beams: -1}",
     "generation.num_beams: expected a whole number, 1 or more, found the number -1"),
    ("generation: {num_beams: true}", "generation.num_beams: expected a whole number, 1 or more, found true"),
    ("generation: {num_beam: 4}", "generation.num_beam: unknown key; did you mean num_beams?"),
    ("generation: {temprature: 0.5}", "generation.temprature: unknown key; did you mean temperature?"),
    ("generation: {do_sample: yes}", "generation.do_sample: expected true or false, found the text 'yes'"),
    ("generation: {top_p: 1.5}", "generation.top_p: expected a number between 0 and 1, found the number 1.5"),
    ("generation: {early_stopping: always}",
     "generation.early_stopping: expected true, false or never, found the text 'always'"),
    ("generation: {max_new_tokens: 9, max_length: 9}",
     "generation.max_length: given besides generation.max_new_tokens, which counts the same; keep one"),
    ("evaluation: {metrics: [rouge]}", "evaluation.metrics: unknown metric rouge; did you mean rougeL?"),
    ("training: {metric_for_best_model: rougel}",
     "training.metric_for_best_model: rougel is not scored; did you mean rougeL?"),
    ("preprocessing: {max_target_length: 0}",
     "preprocessing.max_target_length: expected a whole number at least 1 or null, found the number 0"),
]  # fmt: skip


def _no_use(task, owners):
    return f"{task} has no use for it, but {owners}; leave it out"


# task, a line of the recipe, its problem
TASKS = [
    ("question-answering", "preprocessing: {packing: true}",
     f"preprocessing.packing: {_no_use('question-answering', 'fill-mask and text-generation')}"),
    ("question-answering", "preprocessing: {return_overflowing_tokens: true}",
     f"preprocessing.return_overflowing_tokens: {_no_use('question-answering', 'token-classification')}"),
    ("text-classification", "preprocessing: {doc_stride: 32}",
     f"preprocessing.doc_stride: {_no_use('text-classification', 'question-answering and token-classification')}"),
    ("text-classification", "preprocessing: {max_answer_length: 30}",
     f"preprocessing.max_answer_length: {_no_use('text-classification', 'question-answering')}"),
    ("fill-mask", "preprocessing: {label_all_tokens: true}",
     f"preprocessing.label_all_tokens: {_no_use('fill-mask', 'token-classification')}"),
    ("text-generation", "preprocessing: {source_prefix: 'summarize: '}",
     "preprocessing.source_prefix: "
     + _no_use("text-generation", "text2text-generation, summarization and translation")),
    ("question-answering", "preprocessing: {max_length: 64, doc_stride: 64}",
     "preprocessing.doc_stride: 64 tokens of overlap, where a window has max_length: 64; a half of it is the most"),
    ("fill-mask", "preprocessing: {mlm_probability: 0}",
     "preprocessing.mlm_probability: expected a number above 0 and below 1, found the number 0"),
    ("fill-mask", "preprocessing: {mlm_probability: 1}",
     "preprocessing.mlm_probability: expected a number above 0 and below 1, found the number 1"),
    ("fill-mask", "preprocessing: {mlm_probability: 15%}",
     "preprocessing.mlm_probability: expected a number above 0 and below 1, found the text '15%'; write 0.15"),
    ("fill-mask", "preprocessing: {whole_word: true}",
     "preprocessing.whole_word: unknown key; did you mean whole_word_mask?"),
    ("fill-mask", "generation: {num_beams: 2}",
     "generation: fill-mask generates no text (text2text-generation, summarization, translation and text-generation "
     "do); leave it out"),
    ("summarization", "generation: {num_beams: 0}",
     "generation.num_beams: expected a whole number, 1 or more, found the number 0"),
    ("summarization", "generation: {beam_size: 4, num_beams: 1}", "generation.beam_size: unknown key; known: "),
    ("summarization", "generation: {num_beams: 1, length_penalty: 2.0}",
     "generation.length_penalty: has no effect without generation.num_beams: 2 or more; add that, or leave it out"),
    ("text-generation", "generation: {do_sample: false, temperature: 0.7}",
     "generation.temperature: has no effect without generation.do_sample: true; add that, or leave it out"),
    ("text-generation", "generation: {do_sample: true, temperature: 0}",
     "generation.temperature: expected a number above 0, found the number 0"),
    ("text-generation", "generation: {max_new_tokens: 4, min_new_tokens: 9}",
     "generation.min_new_tokens: 9 is more than generation.max_new_tokens, which is 4"),
    ("text-generation", "generation: {max_tokens: 9}",
     "generation.max_tokens: unknown key; did you mean max_new_tokens?"),
    ("text-generation", "generation: greedy",
     "generation: expected a mapping (key: value) or null, found the text 'greedy'"),
    ("token-classification", "preprocessing: {whole_word_mask: true}",
     f"preprocessing.whole_word_mask: {_no_use('token-classification', 'fill-mask')}"),
    ("token-classification", "training: {metric_for_best_model: f1_LOC}",
     "training.metric_for_best_model: f1_LOC is not scored; this recipe scores f1, "),
    ("question-answering", "evaluation: {metrics: [bleu]}",
     "evaluation.metrics: bleu is a metric of text2text-generation; question-answering has f1, "),
]  # fmt: skip

# task, columns, the problem
COLUMNS = [
    ("text-generation", "{text: story, prompt: question}",
     "prompt: does not go together with text; text-generation takes text, completion and prompt or messages"),
    ("token-classification", "{tokens: words, spans: entities}",
     "spans: does not go together with tokens; token-classification takes tags and tokens or spans and text"),
    ("question-answering", "{text: passage}", "text: unknown role; did you mean context?"),
    ("question-answering", "{question: q, context: q}", "context: the column q already plays question"),
    ("fill-mask", "{label: text}", "label: unknown role; did you mean text: label?"),
    ("multiple-choice", "{choices: [a, b, c]}", "choices: takes the name of one column, found a list of 3"),
]  # fmt: skip

NICKNAMES = [
    ("ner", "token-classification"), ("pos_tagging", "token-classification"), ("QA", "question-answering"),
    ("masked-lm", "fill-mask"), ("sft", "text-generation"), ("causal-lm", "text-generation"),
    ("seq2seq", "text2text-generation"), ("sentiment-analysis", "text-classification"), ("summarisation",
    "summarization"), ("question_answering", "question-answering"), ("mcq", "multiple-choice"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "line", "message"), TASKS)
def test_bad_recipe_of_a_task(task, line, message, folder):
    [problem] = refused(f"{START.replace('text-classification', task)}{line}\n", folder)
    assert problem.startswith(f"recipe.yaml:4: {message}")


@pytest.mark.parametrize(("task", "columns", "message"), COLUMNS)
def test_bad_recipe_columns_of_a_task(task, columns, message, folder):
    text = f"task: {task}\n{MODEL}dataset: {{path: c/d, columns: {columns}}}\n"
    assert refused(text, folder)[-1] == f"recipe.yaml:3: dataset.columns.{message}"


@pytest.mark.parametrize(("written", "meant"), NICKNAMES)
def test_bad_recipe_task_by_another_name(written, meant, folder):
    [problem] = refused(f"task: {written}\n{MODEL}{DATA}", folder)
    assert problem == f"recipe.yaml:1: task: unknown task {written!r}; did you mean {meant}?"


def test_bad_recipe_of_a_task_has_all_its_problems_at_once(folder):
    lines = [
        "preprocessing: {packing: true, mlm_probability: 0.3}", "generation: {num_beams: 2}",
        "training: {metric_for_best_model: bleu}",
    ]  # fmt: skip
    found = refused("\n".join([START.replace("text-classification", "question-answering").strip(), *lines]), folder)
    keys = [problem.split(": ")[1] for problem in found[1:]]
    assert keys == [
        "preprocessing.packing", "preprocessing.mlm_probability", "generation", "training.metric_for_best_model",
    ]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), GENERATION)
def test_bad_recipe_generation(line, message, folder):
    assert refused(f"{TRANSLATION}{line}\n", folder) == [f"recipe.yaml:4: {message}"]


def test_settings_of_tasks_that_write_text_are_refused_elsewhere(folder):
    [generation] = refused(f"{START}generation: {{num_beams: 4}}\n", folder)
    assert generation.startswith("recipe.yaml:4: generation: text-classification generates no text (")
    [prefix] = refused(f"{START}preprocessing: {{source_prefix: 'summarize: '}}\n", folder)
    assert prefix.startswith("recipe.yaml:4: preprocessing.source_prefix: text-classification has no use for it, but ")
    assert "translation" in prefix


def refused(text, folder, overrides=()):
    (folder / "recipe.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(FinetuneError) as caught:
        load_recipe("recipe.yaml", overrides)
    return caught.value.message.splitlines()


@pytest.mark.parametrize(("line", "message"), TRAINING)
def test_bad_recipe_training(line, message, folder):
    flow = line.startswith(("{", "["))
    text = START + (f"training: {line}\n" if flow else f"training:\n  {line}\n")
    assert refused(text, folder) == [f"recipe.yaml:{4 if flow else 5}: {message}"]


@pytest.mark.parametrize(("line", "message"), SECTIONS)
def test_bad_recipe_sections(line, message, folder):
    assert refused(f"{START}{line}\n", folder) == [f"recipe.yaml:4: {message}"]


@pytest.mark.parametrize(("text", "message"), WHOLE)
def test_bad_recipe_whole(text, message, folder):
    assert refused(text, folder) == ["recipe.yaml:" + message.replace("{folder}", str(folder))]


@pytest.mark.parametrize(("text", "message"), YAML)
def test_bad_recipe_yaml(text, message, folder):
    assert refused(text, folder) == ["recipe.yaml" + message if message[0] == ":" else f"recipe.yaml:{message}"]
