"""The formats of data files: which endings tell them, and what load_dataset calls them."""

from collections.abc import Mapping

FORMATS = ("csv", "tsv", "json", "jsonl", "parquet", "arrow", "conll", "txt")
ENDINGS: Mapping[str, str] = {name: name for name in FORMATS} | {
    "ndjson": "jsonl",
    "tab": "tsv",
    "text": "txt",
    "feather": "arrow",
    "conllu": "conll",
    "iob": "conll",
}
BUILDERS: Mapping[str, str] = {name: name for name in FORMATS} | {"text": "txt"}
"""The names under which load_dataset knows the formats, which `dataset.path` may have beside data_files."""
