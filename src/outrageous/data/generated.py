"""Text of any size in the form of One Billion Word: same folders, names and lengths of sentences, words by Zipf's law.

It means nothing, and is for measuring what does not depend on meaning: speed and memory.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

TRAINING = "training-monolingual.tokenized.shuffled/news.en-{:05}-of-00100"
HELD_OUT = "heldout-monolingual.tokenized.shuffled/news.en.heldout-{:05}-of-00050"
NUM_SHARDS = 99  # of training, numbered from 1
MEAN_LENGTH = 25.4  # words of a sentence of One Billion Word
WORDS_AT_A_TIME = 1 << 20
SYLLABLES = [first + second for first, second in product("bdfghklmnprstv", "aeiou")]


def generate(folder: Path, num_words: int, num_types: int, seed: int) -> None:
    """Write about `num_words` words of training text and held-out shards 0 and 1 of 150,000 words each, or of a tenth
    of the training text where that is less, drawn from `num_types` different words. The same arguments give the same
    bytes. Files that are there are left alone, so an interrupted call can be given again.
    """
    per_shard = num_words // NUM_SHARDS
    held_out = min(150_000, num_words // 10)
    shards = {TRAINING.format(number): (0, number, per_shard) for number in range(1, NUM_SHARDS + 1)}
    shards |= {HELD_OUT.format(number): (1, number, held_out) for number in (0, 1)}
    words = spell(num_types)
    with tqdm(shards.items(), "Generating", unit=" shards") as progress:
        for name, (part, number, size) in progress:
            file = folder / name
            if file.exists():
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            unfinished = file.with_name(f".{file.name}.part")
            generator = np.random.default_rng((seed, part, number))
            with unfinished.open("wb") as stream:
                for start in range(0, size, WORDS_AT_A_TIME):
                    stream.write(_draw(min(WORDS_AT_A_TIME, size - start), words, generator))
            unfinished.replace(file)


def spell(num_types: int) -> NDArray[np.object_]:
    """That many different words, each with a space behind it, and a line break; the more frequent are shorter."""
    words: list[bytes] = []
    num_syllables = 1
    while len(words) < num_types:
        combinations = product(SYLLABLES, repeat=num_syllables)
        left = num_types - len(words)
        words.extend(f"{''.join(syllables)} ".encode() for syllables, _ in zip(combinations, range(left), strict=False))
        num_syllables += 1
    return np.array([*words, b"\n"], dtype=object)


def _draw(num_words: int, words: NDArray[np.object_], generator: np.random.Generator) -> bytes:
    """Sentences of `num_words` words and line breaks in all; p(k) = log((k+2)/(k+1)) / log(V+1)."""
    num_types = len(words) - 1
    ids = draw_ids(num_words, num_types, generator)
    lengths = draw_lengths(max(1, round(num_words / MEAN_LENGTH)), generator)
    breaks = np.cumsum(lengths + 1) - 1
    breaks = np.append(breaks[breaks < num_words], num_words)  # the last sentence is as long as it comes out
    with_breaks = np.minimum(np.append(ids, 0), num_types - 1)
    with_breaks[breaks] = num_types
    return b"".join(words[with_breaks].tolist()).replace(b" \n", b"\n")


def draw_ids(num_words: int, num_types: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """By Zipf's law, [num_words] from 0; rounding may give num_types."""
    return np.exp(generator.random(num_words) * np.log(num_types + 1)).astype(np.int64) - 1


def draw_lengths(num_sentences: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Words of each, as in One Billion Word: most sentences near 20 words, few beyond 60; at least one word."""
    return 1 + generator.gamma(3.0, (MEAN_LENGTH - 1) / 3, num_sentences).astype(np.int64)
