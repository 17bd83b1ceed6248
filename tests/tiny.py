"""Tiny random checkpoints of every family, made on the spot; what loads them is the real code."""

import json
import random
import string
from pathlib import Path

FAMILIES = ("openai-gpt", "gpt2", "gpt_neo", "opt", "bert", "distilbert", "bart", "t5")
OTHER_FAMILIES = ("roberta", "deberta-v2", "modernbert", "electra", "llama", "qwen3", "mbart", "mt5")

# Words of the toy task: the label is decided by the content word, so a model can learn it and a bag of rows can be
# held out. Written for the tests.
GOOD = ["lovely", "bright", "cheerful", "splendid", "superb", "charming", "delightful", "pleasant"]
BAD = ["awful", "gloomy", "dreadful", "horrid", "terrible", "nasty", "dismal", "rotten"]
FRAMES = (
    "what a {} day it was",
    "the meal seemed {} to everyone",
    "her answer sounded {}",
    "we spent a {} evening there and came home late",
    "{} weather again",
    "my brother called the film {} twice",
)


def toy_rows() -> list[dict[str, str]]:
    """Return 96 texts with the label good or bad, in a fixed mixed order: each frame and word is seen in training."""
    words = [(word, "good") for word in GOOD] + [(word, "bad") for word in BAD]
    rows = [{"text": frame.format(word), "label": label} for frame in FRAMES for word, label in words]
    random.Random(2).shuffle(rows)
    return rows


def _texts() -> list[str]:
    return [row["text"] for row in toy_rows()]


def _wordpiece():
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    # Written down rather than trained: training WordPiece breaks ties differently from process to process.
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = sorted({word for text in _texts() for word in text.split()})
    letters = list(string.ascii_lowercase + string.digits + string.punctuation)
    pieces = [*special, *words, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", tokenizer.token_to_id("[CLS]")), ("[SEP]", tokenizer.token_to_id("[SEP]"))],
    )
    return tokenizer, {
        "unk_token": "[UNK]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }


def _byte_bpe(special: dict[str, str], ends: bool):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = list(dict.fromkeys(special.values()))
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=names, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    if ends:
        first, last = special["bos_token"], special["eos_token"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {last}",
            pair=f"{first} $A {last} {last} $B {last}",
            special_tokens=[(name, tokenizer.token_to_id(name)) for name in (first, last)],
        )
    return tokenizer, special


def _plain_bpe():
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"], end_of_word_suffix="</w>")
    tokenizer.train_from_iterator(_texts(), trainer)
    return tokenizer, {"unk_token": "<unk>"}


def _pieces(special: list[str], unknown: str):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        _texts(), trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token=unknown)
    )
    return tokenizer


def _deberta_pieces():
    from tokenizers import processors

    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    tokenizer = _pieces(special, "[UNK]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer, dict(
        zip(("pad_token", "cls_token", "sep_token", "unk_token", "mask_token"), special, strict=True)
    )


def _unigram():
    from tokenizers import processors

    special = ["<pad>", "</s>", "<unk>"]
    tokenizer = _pieces(special, "<unk>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", tokenizer.token_to_id("</s>"))]
    )
    return tokenizer, {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def _tokenizer(family: str):
    if family in {"bert", "distilbert", "electra", "modernbert"}:
        return _wordpiece()
    if family in {"t5", "mt5"}:
        return _unigram()
    if family == "deberta-v2":
        return _deberta_pieces()
    if family == "openai-gpt":
        return _plain_bpe()
    if family in {"bart", "roberta"}:
        special = {
            "bos_token": "<s>",
            "pad_token": "<pad>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "mask_token": "<mask>",
        }
        return _byte_bpe(special, ends=True)
    if family == "opt":
        return _byte_bpe(
            {"bos_token": "</s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "</s>"}, ends=False
        )
    end = "<|endoftext|>"
    return _byte_bpe({"bos_token": end, "eos_token": end, "unk_token": end}, ends=False)


def _config(family: str, tokenizer, dropout: float):
    import transformers as t

    vocab, pad, eos, bos = (
        len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id,
    )  # fmt: skip
    width, layers, heads, inner, positions = 32, 2, 2, 64, 64
    if family == "bert":
        return t.BertConfig(
            vocab_size=vocab, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
            intermediate_size=inner, max_position_embeddings=positions, pad_token_id=pad,
            hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
        )  # fmt: skip
    if family == "distilbert":
        return t.DistilBertConfig(
            vocab_size=vocab, dim=width, n_layers=layers, n_heads=heads, hidden_dim=inner, pad_token_id=pad,
            max_position_embeddings=positions, dropout=dropout, attention_dropout=dropout, seq_classif_dropout=dropout,
        )  # fmt: skip
    if family in {"gpt2", "openai-gpt"}:
        cls = t.GPT2Config if family == "gpt2" else t.OpenAIGPTConfig
        ends = {"bos_token_id": bos, "eos_token_id": eos} if family == "gpt2" else {}
        return cls(
            vocab_size=vocab, n_embd=width, n_layer=layers, n_head=heads, n_positions=positions,
            resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout, summary_first_dropout=dropout, **ends,
        )  # fmt: skip
    if family == "gpt_neo":
        return t.GPTNeoConfig(
            vocab_size=vocab, hidden_size=width, num_layers=layers, num_heads=heads, intermediate_size=inner,
            max_position_embeddings=positions, attention_types=[[["global", "local"], 1]], window_size=16,
            bos_token_id=bos, eos_token_id=eos, resid_dropout=dropout, embed_dropout=dropout, attention_dropout=dropout,
        )  # fmt: skip
    if family == "opt":
        return t.OPTConfig(
            vocab_size=vocab, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, ffn_dim=inner,
            max_position_embeddings=positions, word_embed_proj_dim=width, pad_token_id=pad, bos_token_id=bos,
            eos_token_id=eos, dropout=dropout, attention_dropout=dropout,
        )  # fmt: skip
    if family in {"roberta", "electra", "modernbert"}:
        cls = {"roberta": t.RobertaConfig, "electra": t.ElectraConfig, "modernbert": t.ModernBertConfig}[family]
        own = (
            {"embedding_size": width} if family == "electra" else {"type_vocab_size": 1} if family == "roberta" else {}
        )
        ends = {} if family != "modernbert" else {
            f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("cls", "sep", "bos", "eos")
        }  # fmt: skip
        return cls(
            vocab_size=vocab, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, pad_token_id=pad,
            intermediate_size=inner, max_position_embeddings=positions + 2, **own, **ends,
        )  # fmt: skip
    if family in {"llama", "qwen3"}:
        cls = t.LlamaConfig if family == "llama" else t.Qwen3Config
        return cls(
            vocab_size=vocab, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, head_dim=16,
            num_key_value_heads=1, intermediate_size=inner, max_position_embeddings=positions,
            attention_dropout=dropout, bos_token_id=bos, eos_token_id=eos,
        )  # fmt: skip
    if family == "bart":
        return t.BartConfig(
            vocab_size=vocab, d_model=width, encoder_layers=layers, decoder_layers=layers,
            encoder_attention_heads=heads, decoder_attention_heads=heads, encoder_ffn_dim=inner, decoder_ffn_dim=inner,
            max_position_embeddings=positions, pad_token_id=pad, bos_token_id=bos, eos_token_id=eos,
            decoder_start_token_id=eos, forced_eos_token_id=eos, dropout=dropout, attention_dropout=dropout,
            classifier_dropout=dropout,
        )  # fmt: skip
    if family == "deberta-v2":
        return t.DebertaV2Config(
            vocab_size=vocab, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, pad_token_id=pad,
            intermediate_size=inner, max_position_embeddings=positions, hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout, pooler_dropout=dropout, relative_attention=True, position_buckets=16,
            norm_rel_ebd="layer_norm", share_att_key=True, pos_att_type=["p2c", "c2p"], position_biased_input=False,
            pooler_hidden_size=width, type_vocab_size=0,
        )  # fmt: skip
    if family == "mbart":
        return t.MBartConfig(
            vocab_size=vocab, d_model=width, encoder_layers=layers, decoder_layers=layers,
            encoder_attention_heads=heads, decoder_attention_heads=heads, encoder_ffn_dim=inner, decoder_ffn_dim=inner,
            max_position_embeddings=positions, pad_token_id=pad, bos_token_id=bos, eos_token_id=eos,
            forced_eos_token_id=eos, dropout=dropout, attention_dropout=dropout,
        )  # fmt: skip
    return (t.MT5Config if family == "mt5" else t.T5Config)(
        vocab_size=vocab, d_model=width, num_layers=layers, num_heads=heads, d_kv=16, d_ff=inner, dropout_rate=dropout,
        classifier_dropout=dropout, pad_token_id=pad, eos_token_id=eos, decoder_start_token_id=pad,
    )  # fmt: skip


def make_checkpoint(family: str, folder: Path, dropout: float = 0.0) -> Path:
    """Save a random base model of a family with its own tokenizer into a folder, as the hub would hold it."""
    import torch
    import transformers as t

    limit = {} if family in {"openai-gpt", "t5", "mt5"} else {"model_max_length": 64}
    if family == "mbart":  # its languages stand in its own tokenizer
        special = ["<s>", "<pad>", "</s>", "<unk>"]
        model = json.loads(_pieces(special, "<unk>").to_str())["model"]
        tokenizer = t.MBartTokenizer(vocab=[(piece, score) for piece, score in model["vocab"]], **limit)
    else:
        raw, special = _tokenizer(family)
        tokenizer = t.PreTrainedTokenizerFast(tokenizer_object=raw, **special, **limit)
    if family == "bert":
        tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    torch.manual_seed(1)
    model = t.AutoModel.from_config(_config(family, tokenizer, dropout))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def toy_tagged_rows() -> list[dict[str, list[str]]]:
    """Return the toy texts as tokens with BIO tags: a good word is a joy, a bad one and the word before it a gloom."""
    rows = []
    for row in toy_rows():
        tokens = row["text"].split()
        tags = ["O"] * len(tokens)
        for place, token in enumerate(tokens):
            if token in GOOD:
                tags[place] = "B-joy"
            elif token in BAD:
                tags[place] = "I-gloom" if place else "B-gloom"
                tags[place - 1 : place] = ["B-gloom"] if place else []
        rows.append({"tokens": tokens, "tags": tags})
    return rows


def toy_rewritten_rows(count: int = 432) -> list[dict[str, str]]:
    """Return different texts with a target text: two things and how each was said to be, in the other order."""
    draw = random.Random(3)
    things = ("day", "meal", "answer", "evening", "weather", "film")
    rows: dict[str, dict[str, str]] = {}
    while len(rows) < count:
        words, (first, second) = draw.choices([*GOOD, *BAD], k=2), draw.sample(things, 2)
        said = ["good" if word in GOOD else "bad" for word in words]
        text = f"{words[0]} {first} and {words[1]} {second}"
        rows[text] = {"text": text, "target": f"the {second} was {said[1]} the {first} was {said[0]}"}
    return list(rows.values())


def toy_questions(unanswerable: bool = False, count: int = 288) -> list[dict[str, object]]:
    """Return `count` questions in SQuAD's columns: which word of a context is a kind one, or which one is not.

    With `unanswerable` every third context has no such word, and the question no answer.
    """
    frames = [frame for frame in FRAMES if not frame.startswith("{")]
    draw = random.Random(3)
    rows: list[dict[str, object]] = []
    for number in range(count):
        kind = number % 2
        asked, other = draw.choice((BAD, GOOD)[kind]), draw.choice((GOOD, BAD)[kind])
        missing = unanswerable and number % 3 == 0
        said = [other, other] if missing else [asked, other]
        draw.shuffle(said)
        context = ", ".join(frame.format(word) for frame, word in zip(draw.sample(frames, 2), said, strict=True))
        answers = (
            {"text": [], "answer_start": []} if missing else {"text": [asked], "answer_start": [context.index(asked)]}
        )
        question = f"what was {('awful', 'lovely')[kind]}"
        rows.append({"id": str(number), "question": question, "context": context, "answers": answers})
    return rows


def toy_choices(count: int = 96) -> list[dict[str, object]]:
    """Return questions with four words to choose from, of which one is of the kind that is asked for."""
    draw = random.Random(4)
    rows: list[dict[str, object]] = []
    for number in range(count):
        kind, answer = number % 2, draw.randrange(4)
        choices = draw.sample((GOOD, BAD)[kind], 3)
        choices.insert(answer, draw.choice((BAD, GOOD)[kind]))
        rows.append({"question": f"what was {('awful', 'lovely')[kind]}", "choices": choices, "answer": answer})
    return rows
