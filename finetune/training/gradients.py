"""The gradient of a step: through Accelerate, or on a processor by threads that take a part of the rows each.

torch's own threads share out every single operation and wait for each other by spinning: two of them gain little on
short texts, and lose all when another process wants a core. Here each thread computes loss and gradient of its rows by
itself, and they meet once a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune.models.adapters import reads_weights
from finetune.models.fast.dropout import masks_from
from finetune.models.fast.shadows import Shadow, cast_shadows, shadows_in_place
from finetune.training.features import outputs_of

if TYPE_CHECKING:
    from torch import Tensor

    from finetune.training.prepare import Prepared
    from finetune.training.session import Session

_FEWEST_ROWS = 8  # a thread with fewer spends its time on the weights


@dataclass(frozen=True)
class Threads:
    """Workers for the parts of a step, `count` at a time."""

    pool: ThreadPoolExecutor
    count: int
    shadows: list[Shadow]
    parameters: list[Any]

    def share(self, work: Callable[[Any], Any], parameters: list[Any]) -> list[Any]:
        """Return the results of `work` on each parameter, in order; each thread takes parameters of as many numbers."""
        results: list[Any] = [None] * len(parameters)

        def take(places: list[int]) -> None:
            for place in places:
                results[place] = work(parameters[place])

        for done in [self.pool.submit(take, places) for places in _even_shares(parameters, self.count)]:
            done.result()
        return results


def _even_shares(parameters: list[Any], count: int) -> list[list[int]]:
    """Deal out the places of parameters, the largest first, each to who has the fewest numbers so far."""
    shares: list[list[int]] = [[] for _ in range(count)]
    sizes = [0] * count
    for place in sorted(range(len(parameters)), key=lambda place: -parameters[place].numel()):
        fewest = sizes.index(min(sizes))
        shares[fewest].append(place)
        sizes[fewest] += parameters[place].numel()
    return shares


def start_threads(model: Any, rows: int, mixed_precision: str) -> Threads:
    """Return workers for micro-batches of so many rows; together they use as many cores as torch would."""
    import torch

    cores = torch.get_num_threads()
    count = max(1, min(cores, rows // _FEWEST_ROWS))
    pool = ThreadPoolExecutor(count, "finetune-step", initializer=torch.set_num_threads, initargs=(cores // count,))
    # DoRA takes the lengths of the weights themselves, which a copy in bfloat16 would round.
    shadows = cast_shadows(model) if mixed_precision == "bf16" and not reads_weights(model) else []
    return Threads(pool, count, shadows, [p for p in model.parameters() if p.requires_grad])


def add_gradients(prepared: Prepared, micros: list[tuple[dict[str, Any], bool]], weight: Any, session: Session) -> Any:
    """Add the gradients of a step's micro-batches to the parameters', and return its loss on this rank, detached.

    `weight` is what the summed loss of the whole global batch is divided by.
    """
    if prepared.threads is not None:
        return _in_threads(prepared, prepared.threads, micros, weight, session)
    accelerator, loss_sum = prepared.accelerator, 0.0
    for index, (micro, counts) in enumerate(micros):
        waits = accelerator.no_sync(prepared.model) if index < len(micros) - 1 else nullcontext()
        with waits:
            loss = _loss(prepared, micro) * counts / weight
            accelerator.backward(loss * accelerator.num_processes)
        loss_sum = loss_sum + loss.detach()
        session.check()
    return loss_sum


def _in_threads(
    prepared: Prepared, threads: Threads, micros: list[tuple[dict[str, Any], bool]], weight: Any, session: Session
) -> Any:
    import torch

    copies = {id(shadow.parameter): shadow.copy for shadow in threads.shadows}
    trained = [parameter for parameter in threads.parameters if parameter.requires_grad]
    inputs = [copies.get(id(parameter), parameter) for parameter in trained]
    # Each part has masks of its own, whichever thread takes it: the result depends on the seed alone.
    seeds = torch.randint(2**62, (len(micros),)).tolist()

    def part(micro: dict[str, Any], seed: int) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        with masks_from(torch.Generator().manual_seed(seed)):
            loss = _loss(prepared, micro) / weight
        return loss.detach(), torch.autograd.grad(loss, inputs, allow_unused=True)

    loss_sum: Any = 0.0
    with shadows_in_place(threads.shadows):
        for start in range(0, len(micros), threads.count):
            chosen = range(start, min(start + threads.count, len(micros)))
            waiting = [threads.pool.submit(part, micros[index][0], seeds[index]) for index in chosen]
            results = [result.result() for result in waiting]
            # Always in the order of the rows, since sums of floats depend on it.
            loss_sum = sum((loss for loss, _ in results), loss_sum)
            _add(threads, trained, [gradients for _, gradients in results])
            session.check()
    return loss_sum


def _add(threads: Threads, parameters: list[Any], parts: list[tuple[Tensor | None, ...]]) -> None:
    """Add the gradients of all parts to the parameters' own."""
    found = {id(parameter): gradients for parameter, *gradients in zip(parameters, *parts, strict=True)}

    def add(parameter: Any) -> None:
        for gradient in found[id(parameter)]:
            if gradient is not None and parameter.grad is None:
                parameter.grad = gradient.to(parameter.dtype)
            elif gradient is not None:
                parameter.grad.add_(gradient)

    threads.share(add, parameters)


def clip_gradients(prepared: Prepared, parameters: list[Any]) -> float:
    """Scale the gradients down to training.max_grad_norm if they are longer together, and return their norm before.

    With threads each norm is taken by one of them, so that it does not depend on their number; the rest is as in
    torch.nn.utils.clip_grad_norm_, but for multiplying by 1.
    """
    import torch

    most = prepared.recipe.training.max_grad_norm or math.inf
    threads = prepared.threads
    if threads is None:
        return float(prepared.accelerator.clip_grad_norm_(parameters, most))
    with_gradient = [parameter for parameter in parameters if parameter.grad is not None]
    norms = threads.share(lambda parameter: torch.linalg.vector_norm(parameter.grad), with_gradient)
    norm = torch.linalg.vector_norm(torch.stack(norms))
    factor = torch.clamp(most / (norm + 1e-6), max=1.0)
    if factor < 1:
        threads.share(lambda parameter: parameter.grad.mul_(factor), with_gradient)
    return float(norm)


def _loss(prepared: Prepared, micro: dict[str, Any]) -> Any:
    """Return the loss of a micro-batch, summed over what it counts."""
    return prepared.task.loss(outputs_of(prepared, micro), micro, prepared.context)
