"""Rows of columns: what is read, which blocks they are in, and what is refused."""

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from outrageous.config import ParallelCorpusConfig
from outrageous.data.pairs import PairFiles, parse_directions
from outrageous.errors import UserError

WriteText = Callable[..., Path]


def make_config(path: Any, **changes: Any) -> ParallelCorpusConfig:
    settings: dict[str, Any] = {"name": "tiny", "path": str(path), "directions": ["en-de"], "vocabulary_size": 40}
    return ParallelCorpusConfig(**(settings | {"dev_fraction": 0.25, "test_fraction": 0.25} | changes))


def test_rows_by_hand(write_text: WriteText) -> None:
    path = write_text("a cat\teine  Katze ", "a dog\t", "", name="pairs.tsv")
    with pytest.raises(UserError, match=r"pairs\.tsv, line 3: 1 columns, where .* are 2, separated by one tab each"):
        list(PairFiles(make_config(path, block_lines=1)).rows())
    path = write_text("a cat\teine  Katze ", "a dog\t", "\t", "the end\tdas Ende", name="pairs.tsv")
    rows = [row for _, row in PairFiles(make_config(path, block_lines=1)).rows()]
    assert rows == [
        {"en": "a cat", "de": "eine Katze"},
        {"en": "a dog", "de": ""},
        {"en": "", "de": ""},
        {"en": "the end", "de": "das Ende"},
    ]


def test_rows_can_be_read_from_any_on(write_text: WriteText) -> None:
    for name in "ab":
        path = write_text(*(f"{name}{i}\t{i}" for i in range(12)), name=f"{name}.tsv")
    source = PairFiles(make_config(path.parent / "*.tsv", block_lines=3))
    whole = list(source.rows())
    assert source.num_rows == len(whole) == 24
    for start in (1, 11, 12, 13, 23, 24):
        assert list(source.rows(start)) == whole[start:]


@pytest.mark.parametrize(("suffix", "open_archive"), [(".xz", lzma.open), (".gz", gzip.open)])
def test_archives_are_read(suffix: str, open_archive: Any, tmp_path: Path) -> None:
    with open_archive(tmp_path / f"pairs.tsv{suffix}", "wt", encoding="utf-8") as stream:
        stream.write("".join(f"line {i}\tZeile {i}\n" for i in range(8)))
    rows = [row for _, row in PairFiles(make_config(tmp_path / f"pairs.tsv{suffix}", block_lines=2)).rows()]
    assert rows[7] == {"en": "line 7", "de": "Zeile 7"}
    assert len(rows) == 8


def parts_of(config: ParallelCorpusConfig) -> dict[str, set[str]]:
    parts: dict[str, set[str]] = {"train": set(), "dev": set(), "test": set()}
    for part, row in PairFiles(config).rows():
        parts[part].add(row["en"])
    return parts


def test_blocks_of_lines_are_held_out_together(write_text: WriteText) -> None:
    config = make_config(write_text(*(f"{i}\t{i}" for i in range(40))), block_lines=5)
    parts = parts_of(config)
    assert {part: len(texts) for part, texts in parts.items()} == {"train": 20, "dev": 10, "test": 10}
    blocks = {part: {int(text) // 5 for text in texts} for part, texts in parts.items()}
    assert sum(map(len, blocks.values())) == 8  # each block in one part only
    assert PairFiles(config).held_out() == {
        "held_out_blocks": {part: {"text.txt": [str(b) for b in sorted(blocks[part])]} for part in ("dev", "test")}
    }
    assert parts_of(config) == parts
    config.split_seed = 1
    assert parts_of(config) != parts


def test_rows_of_one_chapter_or_page_are_held_out_together_wherever_they_stand(write_text: WriteText) -> None:
    ids = [f"{book}.{chapter}.{verse}" for verse in (1, 2, 10) for book in (1, 2) for chapter in (1, 2, 11)]
    pages = [f"a/b.{name}.html#par_{i}.x" for i in range(3) for name in ("x", "y")]
    path = write_text(*(f"{row_id}\t{row_id}\tde" for row_id in [*ids, *pages]))
    parts = parts_of(make_config(path, columns=["id", "en", "de"]))
    block_of = {row_id: row_id.rpartition("#")[0] or row_id.rpartition(".")[0] for row_id in [*ids, *pages]}
    blocks = [{block_of[row_id] for row_id in texts} for texts in parts.values()]
    assert [len(names) for names in blocks] == [4, 2, 2]
    assert len(set.union(*blocks)) == 8
    assert {"1.1", "2.11", "a/b.x.html"} <= set.union(*blocks)


def test_only_the_columns_named_are_read(write_text: WriteText) -> None:
    path = write_text(*(f"{i}\teins\tun" for i in range(8)))
    config = make_config(path, columns=["en", "de", "fr"], directions=["de-fr", "fr-de"], block_lines=1)
    assert next(PairFiles(config).rows())[1] == {"en": "0", "de": "eins", "fr": "un"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"directions": []}, r"data.directions=\[\] must name at least one"),
        ({"directions": ["en-de", "en-de"]}, "each once"),
        ({"directions": ["ende"]}, "'ende' is not source-target, as en-de"),
        ({"directions": ["en-en"]}, "'en-en' is not source-target"),
        ({"directions": ["en-"]}, "'en-' is not source-target"),
        ({"directions": ["en-../de"]}, r"'en-\.\./de' is not source-target"),
        ({"directions": ["en-de", "de-en"]}, "data.columns must name the languages"),
        ({"columns": ["en", "fr"]}, r"data.directions: en-de wants 'de', but data.columns=\['en', 'fr'\] has en, fr"),
        ({"columns": ["en", "de", "id"]}, "id can only be the first"),
        ({"columns": ["en", "de", "en"]}, "each language once"),
        ({"columns": ["id", "de"], "directions": ["id-de"]}, "wants 'id'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], message: str, write_text: WriteText) -> None:
    with pytest.raises(UserError, match=message):
        PairFiles(make_config(write_text("a\tb"), **changes))


def test_files_without_text_and_with_too_few_blocks_are_refused(write_text: WriteText) -> None:
    with pytest.raises(UserError, match=r"there is no text in text\.txt"):
        list(PairFiles(make_config(write_text())).rows())
    with pytest.raises(UserError, match=r"has 1 blocks: too few .* lower data\.block_lines"):
        list(PairFiles(make_config(write_text(*["a\tb"] * 50))).rows())


def test_directions_are_pairs_of_languages() -> None:
    assert parse_directions(make_config("", directions=["en-de", "fr-en"])) == {
        "en-de": ("en", "de"),
        "fr-en": ("fr", "en"),
    }
