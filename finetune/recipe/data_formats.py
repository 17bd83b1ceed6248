"""The formats of data files: which endings tell them, and their names in `dataset.path`."""

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
"""What `dataset.path` may say beside data_files, as in load_dataset: the name of a format."""
