"""finetune.training.hardware: which precision, and refusals that name the key."""

import pytest

from finetune.errors import FinetuneError
from finetune.training import hardware


@pytest.mark.parametrize(
    ("device", "native", "model_type", "chosen"),
    [
        ("cpu", True, "bert", "bf16"),
        ("cpu", False, "bert", "no"),
        ("cuda", True, "t5", "bf16"),
        ("cuda", False, "bert", "fp16"),
        ("cuda", False, "t5", "no"),
        ("mps", False, "bert", "no"),
    ],
)
def test_choose_precision_auto(device, native, model_type, chosen, monkeypatch):
    monkeypatch.setattr(hardware, "has_native_bf16", lambda device: native)
    assert hardware.choose_precision("auto", device, model_type) == chosen


def test_choose_precision_takes_what_is_asked_for():
    assert hardware.choose_precision("no", "cuda", "bert") == "no"
    assert hardware.choose_precision("bf16", "cpu", "bert") == "bf16"


@pytest.mark.parametrize(
    ("device", "model_type", "words"), [("cpu", "bert", "CUDA GPU"), ("cuda", "t5", "t5 overflows")]
)
def test_choose_precision_refuses_fp16_where_it_fails(device, model_type, words):
    with pytest.raises(FinetuneError, match=f"training.mixed_precision: .*{words}"):
        hardware.choose_precision("fp16", device, model_type)


def test_start_accelerator_refuses_ranks_that_accelerate_does_not_see(monkeypatch, tmp_path):
    import accelerate

    monkeypatch.setattr(accelerate.Accelerator, "num_processes", 2)
    with pytest.raises(FinetuneError, match="1 process was started, but Accelerate sees 2"):
        hardware.start_accelerator("no", [], str(tmp_path))
