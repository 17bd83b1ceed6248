import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetune.errors import FinetuneError
from finetune.recipe.adapter_keys import Peft
from finetune.recipe.load import check_recipe, load_recipe

HEAVY = {"torch", "transformers", "datasets", "accelerate", "codecarbon", "evaluate", "numpy", "pandas", "scipy"}


def problems_of(reference, overrides=()):
    with pytest.raises(FinetuneError) as caught:
        load_recipe(reference, overrides)
    return caught.value.message.splitlines()


def test_load_three_mistakes_give_three_problems_in_the_order_of_the_lines(write):
    write("training:\n  learing_rate: 2e-5\n  seed: fast\nevaluation:\n  metrics: [rouge_l, seqeval]\n")
    assert problems_of("recipe.yaml")[:3] == [
        "3 problems in recipe.yaml",
        "recipe.yaml:8: training.learing_rate: unknown key; did you mean learning_rate?",
        "recipe.yaml:9: training.seed: expected a whole number from 0 to 4294967295, found the text 'fast'",
    ]


def test_load_checks_combinations_although_single_keys_are_wrong(write):
    write("training:\n  seed: -1\n  metric_for_best_model: rouge\n")
    header, first, second = problems_of("recipe.yaml")
    assert header.startswith("2 problems")
    assert first.startswith("recipe.yaml:8: training.seed: expected")
    assert second.startswith("recipe.yaml:9: training.metric_for_best_model: rouge is not scored")


def test_load_does_not_blame_a_combination_on_a_key_that_is_wrong_itself(write):
    write("training:\n  eval_strategy: never\n  load_best_model_at_end: true\n")
    assert problems_of("recipe.yaml") == [
        "recipe.yaml:8: training.eval_strategy: expected no, epoch or steps, found the text 'never'"
    ]


def test_load_reads_below_a_misspelt_section(write):
    write("trainig:\n  learning_rate: 3e-5\n  seeed: 1\n")
    assert problems_of("recipe.yaml")[1:] == [
        "recipe.yaml:7: trainig: unknown key; did you mean training?",
        "recipe.yaml:9: trainig.seeed: unknown key; did you mean seed?",
    ]


def test_load_names_the_metrics_of_the_task_when_the_metric_is_of_another(write):
    write("evaluation: {metrics: [rouge]}\n")
    (message,) = problems_of("recipe.yaml")
    assert message.startswith("recipe.yaml:7: evaluation.metrics: rouge is a metric of text2text-generation; ")
    assert "text-classification has accuracy, f1_macro" in message


def test_load_suggests_a_tracker(write):
    write("tracking: {report_to: tensorbord}\n")
    (message,) = problems_of("recipe.yaml")
    assert message.endswith("found the text 'tensorbord'; did you mean tensorboard?")


@pytest.mark.parametrize("metric", ["roc_auc", "brier_score", "some-owner/some_metric"])
def test_load_leaves_unknown_metrics_to_evaluate(write, metric):
    write(f"evaluation: {{metrics: [{metric}]}}\ntraining: {{metric_for_best_model: {metric}}}\n")
    assert load_recipe("recipe.yaml").recipe.evaluation.metrics == [metric]


@pytest.mark.parametrize(
    ("asked", "written", "name"),
    [
        ("[owner/my_metric]", "my_metric", "my_metric"),
        ("[owner/my_metric]", "owner/my_metric", "my_metric"),
        ("[./metrics/mine.py]", "mine", "mine"),
        ("[./metrics/mine.py]", "./metrics/mine.py", "mine"),
        ("null", "loss", "loss"),
        ("null", "f1_macro", "f1_macro"),
    ],
)
def test_load_knows_the_deciding_metric_by_its_name_in_records(write, folder, asked, written, name):
    (folder / "metrics").mkdir()
    (folder / "metrics" / "mine.py").write_text("")
    write(f"evaluation: {{metrics: {asked}}}\ntraining: {{metric_for_best_model: {written}}}\n")
    loaded = load_recipe("recipe.yaml")
    assert (loaded.recipe.training.metric_for_best_model, loaded.notes) == (name, ())


@pytest.mark.parametrize(("written", "name"), [("eval_accuracy", "accuracy"), ("eval_loss", "loss")])
def test_load_reads_the_deciding_metric_as_the_trainer_writes_it_with_a_note(write, written, name):
    write(f"training: {{metric_for_best_model: {written}}}\n")
    loaded = load_recipe("recipe.yaml")
    assert loaded.recipe.training.metric_for_best_model == name
    assert loaded.notes == (f"training.metric_for_best_model: {written} is read as {name}",)


@pytest.mark.parametrize(
    ("task", "metric", "words"),
    [
        ("token-classification", "bleu", "bleu is a metric of text2text-generation; token-classification has f1,"),
        ("token-classification", "exact_match", "exact_match does not fit token-classification; token-classif"),
        ("token-classification", "precison", "unknown metric precison; did you mean precision?"),
        ("question-answering", "accuracy", "accuracy does not fit question-answering; question-answering has f1,"),
        ("question-answering", "exact-match", "unknown metric exact-match; did you mean exact_match?"),
        ("question-answering", "squad", "squad is computed by itself; question-answering has f1"),
        ("multiple-choice", "f1_macro", "f1_macro does not fit multiple-choice; multiple-choice has accuracy"),
        ("multiple-choice", "acc", "unknown metric acc; did you mean accuracy?"),
        ("fill-mask", "perplexty", "unknown metric perplexty; did you mean perplexity?"),
        ("fill-mask", "meteor", "meteor is a metric of text2text-generation; fill-mask has perplexity and accuracy"),
        ("fill-mask", "./mine.py", "mine.py could compare with references; fill-mask has perplexity and accuracy"),
        ("text-generation", "f1", "f1 does not fit text-generation; text-generation has perplexity, accuracy, rougeL"),
        ("text-generation", "sacrebleu", "unknown metric sacrebleu; did you mean bleu?"),
        ("summarization", "accuracy", "accuracy does not fit summarization; summarization has rougeL"),
        ("translation", "blue", "unknown metric blue; did you mean bleu?"),
    ],
)
def test_load_refuses_a_metric_that_does_not_fit_the_task(write, folder, task, metric, words):
    (folder / "mine.py").write_text("")
    write(f"evaluation: {{metrics: [{metric}]}}\n")
    (message,) = problems_of("recipe.yaml", [f"task={task}"])
    assert message.startswith("recipe.yaml:")
    assert ": evaluation.metrics: " in message
    assert words in message


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("token-classification", "./mine.py"), ("question-answering", "./mine.py"), ("multiple-choice", "./mine.py"),
        ("text-generation", "chrf"), ("text-generation", "bertscore"), ("translation", "meteor"),
    ],
)  # fmt: skip
def test_load_leaves_metrics_of_answers_to_the_tasks_that_give_some(write, folder, task, metric):
    (folder / "mine.py").write_text("")
    write(f"evaluation: {{metrics: [{metric}]}}\n")
    assert len(load_recipe("recipe.yaml", [f"task={task}"]).recipe.evaluation.metrics) == 1


def test_load_leaves_the_averages_of_a_metric_to_choose(write):
    write("evaluation: {metrics: [precision_weighted, recall_micro]}\n")
    assert load_recipe("recipe.yaml").recipe.evaluation.metrics == ["precision_weighted", "recall_micro"]


@pytest.mark.parametrize(("written", "steps"), [("1e2", 100), ("0.0", 0), ("100", 100), ("0.5", 0.5)])
def test_load_reads_warmup_steps_like_counts(write, written, steps):
    write(f"training: {{warmup_steps: {written}}}\n")
    found = load_recipe("recipe.yaml").recipe.training.warmup_steps
    assert (found, type(found)) == (steps, type(steps))


def test_load_fills_defaults_and_takes_the_name_from_the_file(write):
    path = write()
    loaded = load_recipe(path)
    assert loaded.path == path
    assert loaded.notes == ()
    assert loaded.recipe.name == "recipe"
    assert loaded.recipe.training.learning_rate == 2e-5
    assert loaded.recipe.evaluation.baselines == ["majority", "untrained"]
    assert loaded.recipe.output_dir == "runs"


def test_load_reads_yaml_1_2_numbers_and_words(write):
    write("name: no\ntags: [on, off, yes, 0o17x]\ntraining: {learning_rate: 1e-4, max_steps: 1e3, seed: 0o17}\n")
    recipe = load_recipe("recipe.yaml").recipe
    assert (recipe.name, recipe.tags) == ("no", ["on", "off", "yes", "0o17x"])
    assert (recipe.training.learning_rate, recipe.training.max_steps, recipe.training.seed) == (1e-4, 1000, 15)


def test_load_takes_an_empty_section_for_its_defaults(write):
    write("training:\n  # learning_rate: 3e-5\n")
    assert load_recipe("recipe.yaml").recipe.training.learning_rate == 2e-5


def test_load_accepts_aliases_with_a_note_at_top_level_and_in_their_section(write):
    write(
        "lr: 3e-5\nepochs: 2\nmax_seq_length: 64\n"
        "training: {batch_size: 8, warmup_ratio: 0.1, group_by_length: false, evaluation_strategy: epoch}\n"
    )
    loaded = load_recipe("recipe.yaml")
    training = loaded.recipe.training
    assert (training.learning_rate, training.num_train_epochs, training.per_device_train_batch_size) == (3e-5, 2.0, 8)
    assert (training.warmup_steps, training.train_sampling_strategy) == (0.1, "random")
    assert loaded.recipe.preprocessing.max_length == 64
    assert "lr is read as training.learning_rate" in loaded.notes
    assert "training.group_by_length is read as training.train_sampling_strategy: random" in loaded.notes


def test_load_accepts_the_aliases_of_model_and_dataset(folder):
    (folder / "recipe.yaml").write_text(
        "task: text-classification\nbase_model: a/b\ndataset_name: c/d\ndataset_config: e\nval_set_size: 0.2\n"
    )
    recipe = load_recipe("recipe.yaml").recipe
    assert (recipe.model.name_or_path, recipe.dataset.path, recipe.dataset.name) == ("a/b", "c/d", "e")
    assert (recipe.dataset.validation_size, recipe.dataset.splits.validation) == (0.2, None)


def test_load_override_wins_over_the_recipe_and_the_later_over_the_earlier(write):
    write("training: {seed: 1, learning_rate: 1e-5}\n")
    loaded = load_recipe(
        "recipe.yaml", ["training.seed=2", "lr=3e-5", "training.seed=3", "training.mixed_precision=no"]
    )
    training = loaded.recipe.training
    assert (training.seed, training.learning_rate, training.mixed_precision) == (3, 3e-5, "no")
    assert loaded.origins["training.seed"] == "command line"
    assert loaded.origins["model.name_or_path"] == "recipe"
    assert "training.weight_decay" not in loaded.origins


def test_load_override_of_one_column_keeps_the_others_and_of_the_mapping_replaces_it(write):
    write("columns: {text: a, label: b}\n".replace("columns", "  columns"))
    assert load_recipe("recipe.yaml", ["dataset.columns.text=c"]).recipe.dataset.columns == {"text": "c", "label": "b"}
    assert load_recipe("recipe.yaml", ["dataset.columns={text: c}"]).recipe.dataset.columns == {"text": "c"}
    assert load_recipe("recipe.yaml", ["dataset.columns={}"]).recipe.dataset.columns == {}


def test_load_override_mends_a_value_that_is_wrong_in_the_file(write):
    write("training: {seed: fast}\n")
    assert load_recipe("recipe.yaml", ["training.seed=1"]).recipe.training.seed == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.learing_rate=1", "training.learing_rate: unknown key; did you mean learning_rate?"),
        ("training.seed=fast", "training.seed: expected a whole number from 0 to 4294967295, found the text 'fast'"),
        ("training.seed=[1", "training.seed: not YAML: expected ',' or ']', but got '<stream end>'"),
        ("training.seed", "expected key=value, as training.learning_rate=3e-5, found 'training.seed'"),
        ("=1", "expected key=value, as training.learning_rate=3e-5, found '=1'"),
        ("training.seed.deep=1", "training.seed: expected a whole number from 0 to 4294967295, found a mapping"),
        ("training=1", "training: expected a mapping (indented lines of key: value), found the number 1"),
        ("dataset.path=nothing.csv", "dataset.path: {folder}/nothing.csv does not exist; {folder} holds data, models, "
         "recipe.yaml"),
    ],
)  # fmt: skip
def test_load_locates_problems_of_overrides_on_the_command_line(write, folder, override, message):
    write()
    assert problems_of("recipe.yaml", [override]) == ["command line: " + message.replace("{folder}", str(folder))]


def test_load_lists_problems_of_the_file_before_those_of_the_command_line(write):
    write("foo: 1\n")
    lines = problems_of("recipe.yaml", ["bar=1"])
    assert lines[1].startswith("recipe.yaml:7: foo")
    assert lines[2].startswith("command line: bar")


def test_load_environment_is_weaker_than_the_recipe(write, monkeypatch):
    monkeypatch.setenv("FINETUNE_COUNTRY", "CAN")
    monkeypatch.setenv("FINETUNE_REGION", "quebec")
    monkeypatch.setenv("FINETUNE_OUTPUT_DIR", "elsewhere")
    write()
    loaded = load_recipe("recipe.yaml")
    assert (loaded.recipe.emissions.country_iso_code, loaded.recipe.emissions.region) == ("CAN", "quebec")
    assert loaded.recipe.output_dir == "elsewhere"
    assert loaded.origins["emissions.country_iso_code"] == "environment variable FINETUNE_COUNTRY"
    write("emissions: {country_iso_code: BRA}\noutput_dir: here\n")
    recipe = load_recipe("recipe.yaml").recipe
    assert (recipe.emissions.country_iso_code, recipe.emissions.region) == ("BRA", None)
    assert recipe.output_dir == "here"


def test_load_names_an_environment_variable_that_is_wrong(write, monkeypatch):
    monkeypatch.setenv("FINETUNE_COUNTRY", "Brazil")
    write()
    (message,) = problems_of("recipe.yaml")
    assert message.startswith("environment variable FINETUNE_COUNTRY: emissions.country_iso_code: expected three")


def test_load_resolves_inputs_relative_to_the_recipe_and_leaves_hub_ids(folder, monkeypatch):
    (folder / "sub").mkdir()
    (folder / "sub" / "recipe.yaml").write_text(
        "task: text-classification\nmodel: {name_or_path: ../models/tiny}\n"
        "dataset: {data_files: {train: ../data/train.csv, test: ['../data/te*.csv']}}\n"
    )
    monkeypatch.chdir(folder / "sub")
    recipe = load_recipe("recipe.yaml").recipe
    assert recipe.model.name_or_path == str(folder / "models" / "tiny")
    assert recipe.dataset.data_files == {
        "train": str(folder / "data" / "train.csv"),
        "test": [str(folder / "data" / "te*.csv")],
    }
    assert recipe.output_dir == "runs"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("eval_strategy: no", {"load_best_model_at_end": False}),
        ("eval_strategy: steps", {"save_strategy": "steps", "eval_steps": 100, "save_steps": 100}),
        ("{eval_strategy: steps, eval_steps: 7}", {"save_strategy": "steps", "save_steps": 7}),
        ("save_strategy: no", {"load_best_model_at_end": False}),
    ],
)
def test_load_derives_defaults_that_follow_from_other_keys(write, more, expected):
    write(f"training: {more}\n" if more.startswith("{") else f"training:\n  {more}\n")
    training = load_recipe("recipe.yaml").recipe.training
    assert {key: getattr(training, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("more", "note"),
    [
        ("training: {max_steps: 5, num_train_epochs: 1}", "training.max_steps: 5 wins over training.num_train_epochs"),
        ("training: {max_steps: 50, warmup_steps: 50}", "training.warmup_steps: 50 with training.max_steps: 50: the"),
        ("training: {eval_steps: 5}", "training.eval_steps has no effect with training.eval_strategy: epoch"),
        ("training: {save_strategy: no}", "training.save_strategy: no, so the model of the last step is kept"),
    ],
)
def test_load_notes_what_should_be_known(write, more, note):
    write(more + "\n")
    (found,) = load_recipe("recipe.yaml").notes
    assert found.startswith(note)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["task=token-classification"], "a tag for each word needs a head"),
        (["dataset.problem_type=regression"], "a number is no answer to choose among words"),
        (["model.init=scratch"], "model.init is scratch, and random weights know no words"),
    ],
)
def test_load_notes_which_baseline_cannot_be_asked(write, settings, reason):
    write("")
    found = load_recipe("recipe.yaml", ["evaluation.baselines=[zero_shot]", *settings]).notes
    assert [note for note in found if note.startswith(f"evaluation.baselines: zero_shot will be null: {reason}")]
    assert load_recipe("recipe.yaml", settings[:1]).notes == ()


def test_load_notes_code_that_will_run(folder):
    (folder / "recipe.yaml").write_text(
        "task: text-classification\nmodel: {name_or_path: a/b, trust_remote_code: true}\ndataset: {path: c/d}\n"
    )
    (note,) = load_recipe("recipe.yaml").notes
    assert "will run on this machine" in note


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: é\n".encode("latin-1"), "recipe.yaml:1: not UTF-8: byte 0xe9"),
        (b"a: 1\n" + "b: 1\n".encode("utf-16"), "recipe.yaml:2: not UTF-8: byte 0xff"),
        (b"#" * 300_000, "recipe.yaml: 300,000 bytes; a recipe has at most 262,144"),
    ],
)
def test_load_refuses_files_that_are_no_text_or_too_large(folder, content, message):
    (folder / "recipe.yaml").write_bytes(content)
    assert problems_of("recipe.yaml") == [message]


def test_load_reads_a_byte_order_mark_and_windows_line_ends(write, folder):
    path = write()
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"training:\r\n  sed: 1\r\n")
    assert problems_of("recipe.yaml") == ["recipe.yaml:8: training.sed: unknown key; did you mean seed?"]


@pytest.mark.parametrize(
    ("reference", "message", "hint"),
    [
        ("quickstrat", "no shipped recipe is called quickstrat; did you mean quickstart?", "finetune recipes"),
        ("recipe", "recipe: no such recipe", "Did you mean recipe.yaml?"),
        ("recpie.yaml", "recpie.yaml: no such recipe", "Did you mean recipe.yaml?"),
        ("sub/other.yaml", "sub/other.yaml: no such file", "finetune init sub/other.yaml"),
        ("data", "data is a folder, not a recipe", "finetune init writes one"),
        (".", ". is a folder, not a recipe", "Did you mean recipe.yaml?"),
    ],
)
def test_load_helps_to_find_the_recipe(write, reference, message, hint):
    write()
    with pytest.raises(FinetuneError) as caught:
        load_recipe(reference)
    assert caught.value.message == message
    assert hint in caught.value.hint


def test_check_reports_problems_as_values(write):
    write("training: {sed: 1}\n")
    report = check_recipe("recipe.yaml").report()
    assert report["ok"] is False
    assert report["problems"] == [
        {"origin": "recipe", "line": 7, "key": "training.sed", "message": "unknown key; did you mean seed?"}
    ]


def test_load_imports_nothing_heavy(write):
    path = write("training: {sed: 1}\n")
    script = (
        "import sys\nfrom finetune.recipe.load import check_recipe\n"
        f"print(len(check_recipe({str(path)!r}).problems))\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    problems, modules = result.stdout.splitlines()
    assert problems == "1"
    assert HEAVY.isdisjoint(modules.split())


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(), st.text(max_size=8),
    st.sampled_from(["no", "auto", "./x", "a/b", "package:yaml", "package:", "$HOME", "~", "*", "json"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
KEYS = st.sampled_from(
    ["task", "name", "model", "model.name_or_path", "model.freeze", "dataset", "dataset.path", "dataset.columns",
     "dataset.columns.text", "dataset.data_files", "dataset.data_files.train", "dataset.splits", "lr", "lora_r", "peft",
     "dataset.splits.validation", "dataset.validation_size", "evaluation.metrics", "evaluation.bias", "evaluation",
     "training.class_weights", "training.warmup_steps", "training.eval_strategy", "training.metric_for_best_model",
     "emissions.region", "tracking.report_to", "tags", "output_dir", "group_by_length", "warmup_ratio", "x", "x.y.z"]
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=4))
def test_load_answers_any_override_with_a_recipe_or_an_error_of_ours(write, changes):
    import json

    write()
    overrides = [f"{key}={json.dumps(value)}" for key, value in changes]
    try:
        load_recipe("recipe.yaml", overrides)
    except FinetuneError as error:
        assert re.match(r"command line: |\d+ problems in recipe.yaml\n|recipe.yaml:", error.message)  # noqa: PT017


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet=st.sampled_from("abtask:model \n\t-[]{},'\"#&*!|>?%@`0123e.~é\x07"), max_size=60))
def test_load_answers_any_text_with_an_error_of_ours(write, text):
    write(base=text)
    with pytest.raises(FinetuneError):
        load_recipe("recipe.yaml")


def test_load_null_on_the_command_line_undoes_a_section(write):
    write("peft: {method: lora, r: 4}\n")
    assert load_recipe("recipe.yaml").recipe.peft.lora_alpha == 8
    assert load_recipe("recipe.yaml", ["peft=null"]).recipe.peft == Peft()
    assert load_recipe("recipe.yaml", ["peft=null", "peft.method=ia3"]).recipe.peft == Peft(method="ia3")
    with pytest.raises(FinetuneError, match=r"model\.name_or_path: missing"):
        load_recipe("recipe.yaml", ["model=null"])


def test_load_fills_in_what_lora_needs_and_notes_a_rate_for_whole_models(write):
    write("peft: {method: lora}\n")
    loaded = load_recipe("recipe.yaml")
    expected = Peft(method="lora", r=8, lora_alpha=16, lora_dropout=0.05, target_modules="all-linear")
    assert loaded.recipe.peft == expected
    assert any("adapters usually take ten times as much" in note for note in loaded.notes)
    assert load_recipe("recipe.yaml", ["lr=2e-4", "lora_target=all"]).recipe.peft == expected
    assert not [note for note in load_recipe("recipe.yaml", ["lr=2e-4"]).notes if "ten times" in note]
