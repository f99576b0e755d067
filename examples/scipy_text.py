"""Sentences of SciPy's manual, and which of its packages each is about: the data of the text examples.

The text comes with SciPy, in its docstrings. Every fourth function is kept for validation.
"""

import importlib
import inspect
import re
from collections import Counter
from typing import Any

import numpy as np

AREAS = ["linalg", "ndimage", "optimize", "signal", "special"]
Rows = list[tuple[list[str], int]]


def sentences(*, is_validation: bool) -> Rows:
    """The first sentences on each function as words, with the number of its package."""
    found = []
    for label, area in enumerate(AREAS):
        package = importlib.import_module(f"scipy.{area}")
        for place, name in enumerate(package.__all__):
            if (place % 4 == 3) is is_validation:
                text = (inspect.getdoc(getattr(package, name)) or "").partition("Examples\n---")[0].lower()
                split = [re.findall("[a-z]+", sentence) for sentence in re.split(r"(?<=\.)\s", text)]
                found += [(words, label) for words in split[:4] if len(words) > 4]
    return found


TRAIN, VAL = sentences(is_validation=False), sentences(is_validation=True)
COUNTS = Counter(word for words, _ in TRAIN for word in words)
VOCABULARY = {word: place for place, (word, _) in enumerate(COUNTS.most_common(3000), start=1)}


def encode(rows: Rows, sequence_length: int) -> tuple[Any, Any]:
    """Numbers in place of words, cut to one length or filled up with zeros, and the labels."""
    codes = np.zeros((len(rows), sequence_length), dtype="int64")
    for row, (words, _) in zip(codes, rows, strict=True):
        known = [VOCABULARY.get(word, 0) for word in words[:sequence_length]]
        row[: len(known)] = known
    return codes, np.array([label for _, label in rows])
