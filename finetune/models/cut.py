"""Where the frozen part of a model ends: what it hands on there, and the rest of the model run from that alone.

The families differ in what they hand on, so nothing is told by their names. A few rows are sent through the model; it
is seen which states the trained part reads, and its answer from those alone is compared with the whole model's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from finetune.models.freezing import layers_of

if TYPE_CHECKING:
    import torch

# Of the largest logit, in float32: far above rounding, far below what a wrong mask or position changes.
_TOLERANCE = 1e-3


@dataclass
class _Replays:
    """How many threads replay states at the moment, which ones each, and what the modules computed before."""

    count: int = 0
    own: list[Any] = field(default_factory=list)
    states: threading.local = field(default_factory=threading.local)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class Cut:
    """The border between the frozen part of a model and what is trained.

    modules: the backbone, or the frozen layers from the bottom up; the last of them hands the states on.
    answer: turns states into what such a module returns. output: the one of the backbone that is read, None for
    layers. reads: "rows" when that output is one vector a row (BERT's pooler), "places" when the head reads one place
    of each row (the first or the last token), "tokens" when every token is read.
    """

    model: Any
    modules: tuple[Any, ...]
    answer: Callable[[Any], Any]
    output: str | None = None
    reads: str = "tokens"
    replays: _Replays = field(default_factory=_Replays)


@dataclass(frozen=True)
class States:
    """What the frozen part hands on for a batch: rows × tokens × width, or rows × width where one a row is read.

    tokens: where one a row is read, the id of the token that each vector stands for; heads find their place by it.
    """

    values: torch.Tensor
    tokens: torch.Tensor | None = None


class NoCutError(Exception):
    """The model cannot be run from the states of its frozen part; the message says why."""


class _Reached(Exception):
    # No error: it leaves a forward pass early.
    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


def find_cut(model: Any, what: str | int, rows: Sequence[Mapping[str, Any]], batch: Mapping[str, Any]) -> Cut:
    """Return the cut of a model whose backbone (what: "backbone") or lower layers (their number) are frozen.

    rows: a few rows of different lengths, each as a batch of its own; batch: the same rows, padded to one width.
    Leaves the model in evaluation mode. Raises NoCutError when the rest cannot be run from the states alone.
    """
    import torch

    backbone = model.base_model
    modules = (backbone,) if what == "backbone" else tuple(layers_of(backbone)[: int(what)])
    if any(getattr(module, "layerdrop", 0) for module in backbone.modules()):
        raise NoCutError("its layers are skipped at random (layerdrop)")
    model.eval()
    output = _output_of(model, modules[-1], batch, _plain_call)
    if any(tensor.requires_grad for tensor in _tensors(output)):
        raise NoCutError("trained weights lie below the frozen ones")
    if what == "backbone":
        cut = _backbone_cut(model, backbone, output, batch)
    else:
        cut = Cut(model, modules, _answer_of_layers(output))
    with torch.no_grad():
        expected = _plain_call(model, batch).logits
        try:
            found = _from_single_rows(cut, rows, batch)
        except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as problem:
            raise NoCutError(f"its trained part does not run from the states below it ({problem})") from problem
    if expected.shape[:-1] == batch["attention_mask"].shape:  # a place of padding has an answer that nobody reads
        real = batch["attention_mask"].bool()
        found, expected = found[real], expected[real]
    if not torch.allclose(found, expected, rtol=0, atol=_TOLERANCE * float(expected.abs().max())):
        raise NoCutError("its trained part reads more than the states below it, or padding changes them")
    return cut


def read_states(cut: Cut, inputs: Mapping[str, Any], call: Callable[..., Any] | None = None) -> States:
    """Return what the frozen part hands on for a batch, without dropout and without its graph.

    Leaves the model in evaluation mode. Raises NoCutError when the head suddenly reads other places than in `find_cut`.
    """
    import torch

    call = call or _call
    if cut.model.training:
        cut.model.eval()
    with torch.no_grad():
        output = _output_of(cut.model, cut.modules[-1], inputs, call)
    if cut.output is None:
        return States(_first(output))
    values = output[cut.output]
    if cut.reads == "tokens":
        return States(values)
    if cut.reads == "rows":
        return States(values, inputs["input_ids"][:, 0])
    rows = torch.arange(len(values), device=values.device)
    read = _places_read(cut, inputs, values, call)
    if not (read.sum(1) == 1).all():
        raise NoCutError("its head does not read one place of each row")
    places = read.int().argmax(1)
    return States(values[rows, places], inputs["input_ids"][rows, places])


def inputs_from(states: States, padded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model's inputs that go with states: the padded batch, or one token a row where one is read."""
    if states.tokens is None:
        return dict(padded)
    tokens = states.tokens.long()[:, None]
    return {"input_ids": tokens, "attention_mask": tokens.new_ones(tokens.shape)}


@contextmanager
def replayed(cut: Cut, values: torch.Tensor) -> Iterator[None]:
    """Let the frozen part answer this thread with recorded states while it calls the model.

    The model itself stays as it is, and threads that call it at the same time get what they replay themselves.
    """
    replays = cut.replays
    with replays.lock:
        replays.count += 1
        if replays.count == 1:
            replays.own[:] = _put(cut.modules, [_answering(cut, module.forward) for module in cut.modules])
    replays.states.values = values
    try:
        yield
    finally:
        replays.states.values = None
        with replays.lock:
            replays.count -= 1
            if replays.count == 0:
                _put(cut.modules, replays.own)


def _answering(cut: Cut, own: Callable[..., Any]) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        values = getattr(cut.replays.states, "values", None)
        if values is None:
            return own(*args, **kwargs)
        return cut.answer(values[:, None] if cut.reads == "places" and values.ndim == 2 else values)

    return forward


def _put(modules: Sequence[Any], functions: Sequence[Callable[..., Any] | None]) -> list[Any]:
    """Let modules compute functions instead of their own (None: their class's), and return what they had."""
    before = [module.__dict__.get("forward") for module in modules]
    for module, function in zip(modules, functions, strict=True):
        if function is not None:
            module.forward = function
        elif "forward" in module.__dict__:
            del module.forward
    return before


@contextmanager
def _forward(module: Any, function: Callable[..., Any]) -> Iterator[None]:
    before = _put([module], [function])
    try:
        yield
    finally:
        _put([module], before)


def _call(model: Any, inputs: Mapping[str, Any]) -> Any:
    return model(**inputs)


def _plain_call(model: Any, inputs: Mapping[str, Any]) -> Any:
    """Call a model as its class has it: without the autocast that Accelerate puts around an instance."""
    return type(model).forward(model, **inputs)


def _output_of(model: Any, module: Any, inputs: Mapping[str, Any], call: Callable[..., Any]) -> Any:
    """Return what a module inside the model gives for a batch; nothing above it is computed."""
    own = module.forward

    def reached(*args: Any, **kwargs: Any) -> Any:
        raise _Reached(own(*args, **kwargs))

    with _forward(module, reached):
        try:
            call(model, inputs)
        except _Reached as found:
            return found.output
    raise NoCutError("its head does not call the backbone")


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple | list) else output


def _tensors(output: Any) -> list[Any]:
    import torch

    values = (
        output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else [output]
    )
    return [value for value in values if isinstance(value, torch.Tensor)]


def _answer_of_layers(output: Any) -> Callable[[Any], Any]:
    """Return what makes a layer's output of states: some families give several things, the states first."""
    if isinstance(output, tuple | list):
        rest = (None,) * (len(output) - 1)
        return lambda values: (values, *rest)
    return lambda values: values


def _backbone_cut(model: Any, backbone: Any, output: Any, batch: Mapping[str, Any]) -> Cut:
    """Return the cut below the head: which output it reads, and of which places."""
    import torch

    if not isinstance(output, Mapping):
        raise NoCutError("its backbone returns no named outputs")
    named = {name: value for name, value in output.items() if isinstance(value, torch.Tensor)}
    leaves = {name: value.detach().clone().requires_grad_() for name, value in named.items()}
    with _forward(backbone, lambda *args, **kwargs: type(output)(**leaves)):
        logits = _plain_call(model, batch).logits
    gradients = torch.autograd.grad(_mixed(logits), list(leaves.values()), allow_unused=True)
    read = [name for name, gradient in zip(leaves, gradients, strict=True) if gradient is not None and gradient.any()]
    if len(read) != 1 or named[read[0]].ndim not in (2, 3):
        raise NoCutError("its head reads several outputs of the backbone" if read else "its head reads no output of it")
    [field] = read

    def answer(values: Any) -> Any:
        # Outputs that nobody reads are there all the same: heads take them by their number.
        return type(output)(**{name: values if name == field else values.new_empty(0) for name in named})

    cut = Cut(model, (backbone,), answer, field, "rows" if named[field].ndim == 2 else "tokens")
    if cut.reads == "tokens" and (_places_read(cut, batch, named[field], _plain_call).sum(1) == 1).all():
        return replace(cut, reads="places")
    return cut


def _places_read(cut: Cut, inputs: Mapping[str, Any], values: Any, call: Callable[..., Any]) -> Any:
    """Return which places of each row the head reads (rows × tokens, bool): those that its gradient reaches."""
    import torch

    leaf = values.detach().clone().requires_grad_()
    with torch.enable_grad():
        with replayed(cut, leaf):
            logits = call(cut.model, inputs).logits
        (gradient,) = torch.autograd.grad(_mixed(logits), leaf)
    return (gradient != 0).any(-1)


def _mixed(logits: Any) -> Any:
    """Return a sum in which no two labels weigh the same, so that gradients of different labels do not cancel."""
    import torch

    return (logits.float() * torch.arange(1, logits.shape[-1] + 1, device=logits.device)).sum()


def _from_single_rows(cut: Cut, rows: Sequence[Mapping[str, Any]], batch: Mapping[str, Any]) -> Any:
    """Return the logits of a padded batch from the states of its rows, each computed in a batch of its own."""
    import torch

    singles = [read_states(cut, row, _plain_call) for row in rows]
    if singles[0].tokens is not None:
        states = States(*(torch.cat([getattr(single, name) for single in singles]) for name in ("values", "tokens")))
    else:
        real = batch["attention_mask"].bool()
        pairs = zip(singles, rows, strict=True)
        flat = torch.cat([single.values[row["attention_mask"].bool()] for single, row in pairs])
        values = flat.new_zeros((*real.shape, flat.shape[-1]))
        values[real] = flat
        states = States(values)
    with replayed(cut, states.values):
        return _plain_call(cut.model, inputs_from(states, batch)).logits
