"""The `preprocessing` section: how texts become tokens."""

from typing import Annotated

from pydantic import Field

from finetune.recipe.kinds import Count, Section, Text, WholeNumber


class Preprocessing(Section):
    """How texts become tokens."""

    max_length: Count | None = Field(
        default=None,
        description=(
            "Longest input, in tokens; null: what the model can take. Batches are padded to their own longest row."
        ),
    )
    truncation: bool = Field(default=True, description="Cut longer inputs at max_length; false refuses them.")
    return_overflowing_tokens: bool = Field(
        default=False,
        description=(
            "Cut longer inputs into windows that overlap by doc_stride tokens, instead of losing what comes after "
            "max_length (token classification)."
        ),
    )
    label_all_tokens: bool = Field(
        default=False,
        description="Train on every sub-word of a tagged word, not only on its first (token classification).",
    )
    doc_stride: Annotated[WholeNumber, Field(ge=0)] = Field(
        default=128,
        description="Overlap, in tokens, of the windows into which long inputs are cut.",
    )
    max_answer_length: Count | None = Field(
        default=None,
        description="Longest answer that is looked for, in tokens; null: any length (question answering).",
    )
    null_score_diff_threshold: float = Field(
        default=0.0,
        description=(
            "A question gets no answer where the score of none is more than this above that of the best answer; where "
            "every training question has an answer, each gets one (question answering)."
        ),
    )
    packing: bool = Field(
        default=False,
        description=(
            "Join short training texts into rows of up to max_length tokens, each blind to the others "
            "(text generation, fill-mask)."
        ),
    )
    source_prefix: Text | None = Field(
        default=None,
        description="Put before every source text, as T5 was pre-trained (text2text-generation).",
        examples=["summarize: "],
    )
    source_lang: Text | None = Field(
        default=None,
        description="Language of the source, by the code of a multilingual tokenizer (mBART, NLLB, M2M100).",
        examples=["en_XX"],
    )
    target_lang: Text | None = Field(
        default=None,
        description="Language of the target, by the tokenizer's code; generation begins with it.",
        examples=["pt_XX"],
    )
    max_target_length: Count | None = Field(
        default=None,
        description="Longest target, in tokens: longer ones are cut in training. null: as max_length.",
    )
    mlm_probability: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.15, description="Share of the tokens that are hidden and guessed (fill-mask)."
    )
    whole_word_mask: bool = Field(
        default=False, description="Hide all sub-words of a word, or none of them (fill-mask)."
    )
    num_proc: Count | None = Field(
        default=None, description="Processes that tokenise; null: one, or all cores from 100,000 rows on."
    )
