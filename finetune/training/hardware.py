"""What this machine does best: device, precision, and the Accelerator that goes with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from finetune import ranks
from finetune.errors import FinetuneError
from finetune.text import join_words
from finetune.training.launched import wants_sharding

if TYPE_CHECKING:
    from accelerate import Accelerator

# Their activations overflow float16 (huggingface/transformers#4586); bf16 and fp32 are safe.
_OVERFLOW_IN_FP16 = frozenset({"t5", "mt5", "umt5", "longt5"})


@dataclass(frozen=True)
class Hardware:
    """Where a run computes."""

    device: str
    device_name: str
    mixed_precision: str
    num_processes: int
    num_nodes: int
    threads: int

    def to_dict(self) -> dict[str, Any]:
        """Return the `hardware` section of a run record."""
        return asdict(self)


def choose_precision(wanted: str, device: str, model_type: str) -> str:
    """Return no, bf16 or fp16: what was asked for, or for `auto` what device and model do best.

    auto is bf16 where the processor or GPU computes it natively, fp16 on older GPUs (never for T5's family),
    else full precision. Raises FinetuneError for what the device cannot do.
    """
    if wanted == "auto":
        if has_native_bf16(device):
            return "bf16"
        return "fp16" if device == "cuda" and model_type not in _OVERFLOW_IN_FP16 else "no"
    if wanted == "fp16" and device != "cuda":
        raise FinetuneError(f"training.mixed_precision: fp16 needs a CUDA GPU, this run is on {device}", "Use auto.")
    if wanted == "fp16" and model_type in _OVERFLOW_IN_FP16:
        raise FinetuneError(f"training.mixed_precision: {model_type} overflows in fp16", "Use bf16, no or auto.")
    return wanted


def has_native_bf16(device: str) -> bool:
    """Tell whether the device multiplies bfloat16 matrices in hardware."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "cpu":
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)
    return False


def pick_device() -> str:
    """Return the kind of device that Accelerate will choose: cuda, mps or cpu."""
    import os

    import torch

    if os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true"):  # accelerate launch --cpu
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def start_accelerator(precision: str, report_to: list[str], directory: str) -> Accelerator:
    """Return a fresh Accelerator.

    Accelerate keeps its state in singletons; they are reset so that a second run in this process (a test, a
    sweep) is not bound to the first one's precision.
    """
    import os

    from accelerate import Accelerator, DistributedDataParallelKwargs, FullyShardedDataParallelPlugin
    from accelerate.state import AcceleratorState, GradientState
    from accelerate.utils import DistributedType

    AcceleratorState._reset_state()
    GradientState._reset_state()
    accelerator = Accelerator(
        mixed_precision=precision,
        log_with=report_to or None,
        project_dir=directory,
        # Without this, Accelerate on a machine without GPUs overlooks the other ranks.
        cpu=ranks.size() > 1 and pick_device() == "cpu",
        # Unused parameters: a pooler that the head does not read, layers that are dropped at random. The buffers of
        # transformers are constants, and exchanging them would have every rank wait at each forward pass.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)],
    )
    if wants_sharding(os.environ) and accelerator.distributed_type == DistributedType.MULTI_CPU:
        # Accelerate overlooks FSDP on processors; torch can do it there as well.
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(fsdp_version=2)
        if precision != "no":
            accelerator.state.fsdp_plugin.set_mixed_precision(precision)
        accelerator.state.distributed_type = DistributedType.FSDP
    if accelerator.num_processes != ranks.size():
        started = "1 process was" if ranks.size() == 1 else f"{ranks.size()} processes were"
        raise FinetuneError(
            f"{started} started, but Accelerate sees {accelerator.num_processes}",
            "Start them with finetune run --num-processes, torchrun, or accelerate launch.",
        )
    # Accelerate leaves a tracker out without a word when its package is missing.
    missing = set(report_to) - {"all"} - {str(tracker) for tracker in accelerator.log_with}
    if missing:
        raise FinetuneError(
            f"tracking.report_to: {join_words(sorted(missing), 'and')} cannot be used: the package is not installed",
            f"pip install {' '.join(sorted(missing))}",
        )
    return accelerator


def wrap_model(accelerator: Accelerator, model: Any) -> Any:
    """Return the model as Accelerate wraps it: on its device, in its precision, its gradients shared by all ranks."""
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return accelerator.prepare_model(model)


@contextmanager
def without_autocast(model: Any) -> Iterator[None]:
    """Let a model compute inside as it did before Accelerate put autocast into its forward."""
    plain, wrapped = vars(model).get("_original_forward"), vars(model).get("forward")
    if plain is None:
        yield
        return
    model.forward = plain
    try:
        yield
    finally:
        model.forward = wrapped


def describe_hardware(accelerator: Accelerator) -> Hardware:
    """Return where the accelerator computes."""
    import os
    import platform

    import torch

    device = accelerator.device.type
    name = torch.cuda.get_device_name(accelerator.device) if device == "cuda" else _processor() or platform.machine()
    nodes = max(1, accelerator.num_processes // int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes)))
    return Hardware(
        device, name, accelerator.mixed_precision, accelerator.num_processes, nodes, torch.get_num_threads()
    )


def _processor() -> str:
    import platform

    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # not Linux, or an Arm board without the line
        return platform.processor()


def open_device() -> None:
    """Open the GPU, where there is one: an open one draws more at rest than one that nobody has asked for anything."""
    import torch

    if pick_device() == "cuda":
        torch.zeros(1, device="cuda")
        torch.cuda.synchronize()


def wait_for_device() -> None:
    """Wait until the GPU has done what it was given, so that energy read now belongs to the work before now."""
    import sys

    torch = sys.modules.get("torch")  # before torch is imported nothing can be queued
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
