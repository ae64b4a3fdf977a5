"""The shipped corpus: the blocks that its config names are held out, and nothing of them is trained on."""

import lzma
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sacremoses

from outrageous.config import CorpusConfig
from outrageous.data.corpus import Corpus

BLOCK = 200


def read(file: Path) -> list[str]:
    with lzma.open(file, "rt", encoding="utf-8") as stream:
        return stream.read().splitlines()


def masked(line: str) -> str:
    return re.sub(r"\d", "0", line.lower())


@pytest.fixture(scope="module")
def lines_of(pocket_config: CorpusConfig) -> dict[str, list[list[str]]]:
    """The lines of train, dev and test, split here anew from what the config names; each a list of its blocks."""
    parts: dict[str, list[list[str]]] = {"train": [], "dev": [], "test": []}
    for path in pocket_config.path:
        lines, name = read(Path(path)), Path(path).name
        for number, start in enumerate(range(0, len(lines), BLOCK)):
            in_dev, in_test = number in pocket_config.dev_blocks[name], number in pocket_config.test_blocks[name]
            parts["dev" if in_dev else "test" if in_test else "train"].append(lines[start : start + BLOCK])
    return parts


def test_no_held_out_sentence_stands_in_training(lines_of: dict[str, list[list[str]]], pocket: Corpus) -> None:
    training = {masked(line) for block in lines_of["train"] for line in block}
    for part in ("dev", "test"):
        lines = [line for block in lines_of[part] for line in block]
        clean = [line for line in lines if masked(line) not in training]
        counts = pocket.meta["parts"][part]
        assert counts["sentences"] == len(clean)
        assert counts["duplicates_dropped"] == len(lines) - len(clean)


@pytest.mark.parametrize("part", ["dev", "test"])
def test_the_blocks_named_are_the_sentences_packed(
    part: str, lines_of: dict[str, list[list[str]]], pocket: Corpus
) -> None:
    sentences, vocabulary = getattr(pocket, part), pocket.vocabulary
    tokenise = sacremoses.MosesTokenizer("en").tokenize
    for block in (0, len(lines_of[part]) // 2, -1):  # none of these has a duplicate: see the test above
        first = (block % len(lines_of[part])) * BLOCK
        rows = sentences.gather(np.arange(first, first + BLOCK))
        for line, row, length in zip(
            lines_of[part][block], rows, sentences.lengths[first : first + BLOCK], strict=True
        ):
            expected = [*vocabulary.encode(tokenise(line, escape=False)), vocabulary.eos_id]
            assert row[:length].tolist() == expected


def test_each_part_has_its_share_of_each_file(pocket: Corpus, pocket_config: CorpusConfig) -> None:
    assert pocket.meta["held_out_blocks"] == {"dev": pocket_config.dev_blocks, "test": pocket_config.test_blocks}
    sources = pocket.meta["sentences_of_source"]
    for part, size in (("dev", 4000), ("test", 5000)):
        assert pocket.meta["parts"][part]["sentences"] == pytest.approx(size, rel=0.02)
        for name, blocks in pocket.meta["held_out_blocks"][part].items():
            share = len(blocks) * BLOCK / size
            assert share == pytest.approx(sources[name] / sum(sources.values()), abs=0.03)
            assert max(np.diff(blocks)) * BLOCK < 0.15 * sources[name]  # spread over the file


@pytest.mark.parametrize("part", ["train", "dev", "test"])
def test_the_counts_are_those_of_the_packed_sentences(part: str, pocket: Corpus) -> None:
    sentences, counts = getattr(pocket, part), pocket.meta["parts"][part]
    tokens = np.concatenate(
        [
            sentences.gather(rows)[np.arange(sentences.lengths[rows].max()) < sentences.lengths[rows, None]]
            for rows in np.array_split(np.arange(len(sentences)), 20)
        ]
    )
    assert len(tokens) == sentences.num_predicted_tokens == counts["predicted_tokens"]
    assert counts["predicted_tokens"] == counts["words"] + counts["sentences"]
    assert np.count_nonzero(tokens == pocket.vocabulary.unk_id) == counts["oov"]
    assert np.count_nonzero(tokens == pocket.vocabulary.eos_id) == len(sentences)
    assert tokens.max() < pocket.vocabulary.bos_id  # <s> is never predicted
    if part == "train":  # the vocabulary counts training and nothing else
        assert np.bincount(tokens, minlength=len(pocket.vocabulary)).tolist() == pocket.vocabulary.counts


def test_the_vocabulary_has_the_words_seen_three_times(pocket: Corpus) -> None:
    words = pocket.vocabulary.words
    seen = [n for word, n in zip(words, pocket.vocabulary.counts, strict=True) if word not in ("<s>", "</s>", "<unk>")]
    assert min(seen) == 3
    assert {",", "the", "of", "</s>"} <= {*words[:8]}
    assert {"the", "Congress", "LORD"} <= {*words}


def test_the_config_for_own_text_takes_a_path_or_a_list(load_config: Callable[..., CorpusConfig]) -> None:
    assert load_config("text", path="books/*.txt").path == "books/*.txt"
    config = load_config("text", path=["a.txt", "b.xz"], block_lines=10)
    assert (config.path, config.block_lines, config.dev_blocks) == (["a.txt", "b.xz"], 10, {})


@pytest.mark.parametrize(
    ("name", "rows", "columns"),
    [
        ("english.addresses.txt.xz", 65_087, {1}),
        ("english.commentary.txt.xz", 118_662, {1}),
        ("verses.en-de-fr.tsv.xz", 31_102, {4}),
        ("help.en-de-fr.tsv.xz", 32_537, {4}),
    ],
)
def test_the_shipped_files_are_whole(name: str, rows: int, columns: set[int], repository: Path) -> None:
    lines = read(repository / "data_prep" / "pocket" / name)
    assert len(lines) == rows
    assert {line.count("\t") + 1 for line in lines} == columns


def test_the_shipped_files_carry_their_licences(repository: Path) -> None:
    folder = repository / "data_prep" / "pocket"
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert all(f"`{file.name}`" in readme for file in folder.glob("*.xz"))
    assert "Mozilla Public License" in readme
    assert (folder / "MPL-2.0.txt").read_text(encoding="utf-8").startswith("Mozilla Public License Version 2.0")
