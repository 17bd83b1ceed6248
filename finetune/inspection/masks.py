"""Who may attend to whom: one pattern for every kind of attention that a model has. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

from finetune.inspection.anatomy import Settings, Stack
from finetune.models.architecture import DECODER_ONLY, ENCODER_DECODER
from finetune.text import plural

BIDIRECTIONAL, CAUSAL, CROSS = "bidirectional", "causal", "cross"
DRAWN_WINDOW = 3
_GEMMA_TYPES = {"gemma2": 2, "gemma3_text": 6, "cohere2": 4}

_WORDS = {
    BIDIRECTIONAL: "every token sees every token, before and after it",
    CAUSAL: "a token sees itself and those before it, none after it",
    CROSS: "every token that is written sees the whole source",
}


@dataclass(frozen=True)
class Mask:
    """Who may attend to whom in some layers of a stack; window: how many tokens to one side at the most, None: all."""

    stack: str  # whose tokens look
    target: str  # whose tokens are seen
    pattern: str  # bidirectional | causal | cross
    window: int | None = None
    layers: int | None = None  # how many layers are so; None: all

    @property
    def title(self) -> str:
        """Return what the drawing is of: "decoder: causal, the last 256 tokens"."""
        name = "source" if self.pattern == CROSS else self.stack
        words = f"{self.stack} → {name}: cross" if self.pattern == CROSS else f"{name}: {self.pattern}"
        if self.window is None:
            return words
        side = f"the last {self.window}" if self.pattern == CAUSAL else f"{self.window} to each side"
        return f"{words}, {side} tokens" if self.pattern == CAUSAL else f"{words}, {side}"

    @property
    def words(self) -> str:
        """Return the pattern as a sentence for someone who has not met it before."""
        words = _WORDS[self.pattern]
        if self.window is not None:
            words += (
                f", {self.window} tokens at the most"
                if self.pattern == CAUSAL
                else f", but no further than {self.window} tokens away"
            )
        return words + (f" (in {plural(self.layers, 'layer')})" if self.layers is not None else "")

    def allows(self, looks: int, seen: int, window: int | None = None) -> bool:
        """Tell whether the token at position `looks` may see the one at `seen`; `window` stands in for the real one."""
        if self.pattern == CROSS:
            return True
        reach = None if self.window is None else window or self.window
        if self.pattern == CAUSAL:
            return seen <= looks and (reach is None or looks - seen < reach)
        return reach is None or abs(looks - seen) <= reach


def masks_of(settings: Settings, kind: str | None, stacks: tuple[Stack, ...]) -> tuple[Mask, ...]:
    """Return the masks of a model of one of the three kinds; of another kind, none."""
    if kind is None:
        return ()
    if kind == ENCODER_DECODER:
        encoder, decoder = stacks
        return (
            Mask(encoder.name, encoder.name, BIDIRECTIONAL),
            Mask(decoder.name, decoder.name, CAUSAL),
            Mask(decoder.name, encoder.name, CROSS),
        )
    [stack] = stacks
    pattern = CAUSAL if kind == DECODER_ONLY else BIDIRECTIONAL
    window, windowed = _window(settings, stack.layers)
    if window is None or windowed == 0:
        return (Mask(stack.name, stack.name, pattern),)
    if windowed is None or windowed == stack.layers:
        return (Mask(stack.name, stack.name, pattern, window),)
    full = stack.layers - windowed if stack.layers else None
    return (
        Mask(stack.name, stack.name, pattern, None, full),
        Mask(stack.name, stack.name, pattern, window, windowed),
    )


def _window(settings: Settings, layers: int | None) -> tuple[int | None, int | None]:
    """Return how far a token sees and in how many layers; (None, …): everywhere, (…, None): in all of them."""
    family = settings.family.model_type
    if family == "gpt_neo":
        types = settings.get("attention_types") or [[["global", "local"], 12]]
        local = sum(count * names.count("local") for names, count in types)
        return settings.number("window_size"), local
    if family == "modernbert":
        every, reach = settings.number("global_attn_every_n_layers"), settings.number("local_attention")
        types = settings.config.get("layer_types")
        sliding = _sliding(types) if types else None if not every or not layers else layers - -(-layers // every)
        return (reach // 2 if reach else None), sliding  # the key counts both sides
    if family == "longformer":
        reach = settings.number("attention_window")
        return (reach // 2 if reach else None), None
    if settings.get("use_sliding_window") is False:
        return None, None
    window, types = settings.number("sliding_window"), settings.config.get("layer_types")
    if window is None or settings.get("is_encoder_decoder"):
        return None, None
    if types:
        return window, _sliding(types)
    every = settings.number("sliding_window_pattern") or _GEMMA_TYPES.get(family)
    return window, layers - layers // every if every and layers else None


def _sliding(types: list[str]) -> int:
    return sum(name == "sliding_attention" for name in types)
