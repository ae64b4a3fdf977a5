"""A dataset of text streamed from a folder, as one from the hub is."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outrageous.config import CorpusConfig, Source
from outrageous.data import hub, workers
from outrageous.data.corpus import prepare_corpus
from outrageous.data.hub import fetch, part_of
from outrageous.errors import UserError

ROWS = [f"row {number} has words,\n\n  and  a second line.\n" for number in range(200)]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "ROWS_PER_SHARD", 70)
    monkeypatch.setattr(workers, "num_processes", lambda: 1)


@pytest.fixture
def config(tmp_path: Path) -> CorpusConfig:
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "rows.jsonl").write_text(
        "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(ROWS))
    )
    return CorpusConfig(
        name="hub",
        source=Source.hub,
        path=str(folder),
        column="text",
        split="train",
        tokeniser="whitespace",
        block_lines=5,
        dev_fraction=0.2,
        test_fraction=0.2,
        max_size=20,
    )


def lines_of(files: dict[str, Path]) -> list[str]:
    return [line for name in sorted(files) for line in files[name].read_text().splitlines()]


def test_whole_blocks_of_rows_go_to_the_parts(config: CorpusConfig, tmp_path: Path) -> None:
    parts = fetch(config, tmp_path)
    expected: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for number in range(200):
        expected[part_of(number // 5, config)] += [f"row {number} has words,", "and a second line."]
    assert {part: lines_of(files) for part, files in parts.items()} == expected
    assert [len(files) for files in parts.values()] == [3, 3, 3]
    assert min(map(len, expected.values())) > 10


def test_a_stream_that_was_broken_off_goes_on(
    config: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "broken").mkdir()
    whole = fetch(config, tmp_path / "whole")
    write = hub._write_shard

    def break_off(texts: list[str], number: int, *rest: object) -> None:
        if number == 1:
            raise KeyboardInterrupt
        write(texts, number, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(hub, "_write_shard", break_off)
        with pytest.raises(KeyboardInterrupt):
            fetch(config, tmp_path / "broken")
    written: list[int] = []

    def write_again(texts: list[str], number: int, *rest: object) -> None:
        written.append(number)
        write(texts, number, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(hub, "_write_shard", write_again)
    again = fetch(config, tmp_path / "broken")
    assert written == [1, 2]
    assert {part: lines_of(files) for part, files in again.items()} == {
        part: lines_of(files) for part, files in whole.items()
    }


def test_a_network_that_fails_loses_nothing_and_is_one_message(
    config: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the 100th row; and, when the command is given again, in the opening of the dataset."""
    folder, open_dataset = tmp_path / "corpora", hub._open

    class Failing:
        def __init__(self, dataset: Any) -> None:
            self.dataset = dataset
            self.info = dataset.info

        def state_dict(self) -> Any:
            return self.dataset.state_dict()

        def __iter__(self) -> Iterator[Any]:
            for number, row in enumerate(self.dataset):
                if number == 100:
                    raise ConnectionError("Server Disconnected")
                yield row

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("Network is unreachable")

    with monkeypatch.context() as patch:
        patch.setattr(hub, "_open", lambda config: Failing(open_dataset(config)))
        with pytest.raises(UserError, match=r"broke off: Server Disconnected. What came so far is kept"):
            prepare_corpus(config, folder)
    with monkeypatch.context() as patch:
        patch.setattr("datasets.load_dataset", fail)
        with pytest.raises(UserError, match=r"cannot open the dataset .*: Network is unreachable"):
            prepare_corpus(config, folder)
    written: list[int] = []
    write = hub._write_shard

    def write_again(texts: list[str], number: int, *rest: object) -> None:
        written.append(number)
        write(texts, number, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(hub, "_write_shard", write_again)
    prepare_corpus(config, folder)
    assert written == [1, 2]


def test_a_shard_ends_early_where_rows_are_long(
    config: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded by letters too: rows have 40 to 42 of them, so the eighth fills a shard of 300."""
    (tmp_path / "few").mkdir()
    (tmp_path / "many").mkdir()
    few = fetch(config, tmp_path / "few")
    monkeypatch.setattr(hub, "LETTERS_PER_SHARD", 300)
    many = fetch(config, tmp_path / "many")
    assert len(many["train"]) == 200 / 8
    assert {part: lines_of(files) for part, files in many.items()} == {
        part: lines_of(files) for part, files in few.items()
    }


@pytest.mark.parametrize("interrupted", [False, True])
def test_only_so_many_rows_are_taken(
    config: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: bool
) -> None:
    """90 rows: a shard of 70 and one of 20."""
    config.max_rows = 90
    if interrupted:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "touch", stop)
            with pytest.raises(KeyboardInterrupt):
                fetch(config, tmp_path)
    parts = fetch(config, tmp_path)
    assert [len(files) for files in parts.values()] == [2, 2, 2]
    assert sum(len(lines_of(files)) for files in parts.values()) == 180


def stop(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_stopped_while_it_clears_up_it_ends_the_same(
    config: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.tokeniser = "moses"
    prepare_corpus(config, tmp_path / "undisturbed")
    unlink = Path.unlink
    for number in range(0, 25, 4):  # three shards of three parts as raw text, tokenised and as ids: 27 files and more
        left = iter(range(number))

        def clear_up(file: Path, missing_ok: bool = False, left: Iterator[int] = left) -> None:
            if file.suffix in (".raw", ".words", ".ids", ".done", ".state") and next(left, None) is None:
                raise KeyboardInterrupt
            unlink(file, missing_ok)

        corpora = tmp_path / str(number)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", clear_up)
            with pytest.raises(KeyboardInterrupt):
                prepare_corpus(config, corpora)
        prepare_corpus(config, corpora)
        assert content(corpora) == content(tmp_path / "undisturbed")


def content(corpora: Path) -> dict[str, bytes]:
    (target,) = corpora.glob("hub-*")
    return {file.name: file.read_bytes() for file in target.iterdir()}


def test_it_is_prepared_with_a_vocabulary_of_the_size_asked_for(config: CorpusConfig, tmp_path: Path) -> None:
    config.tokeniser = "moses"
    corpus = prepare_corpus(config, tmp_path / "corpora")
    assert {"words", ",", "second"} <= {*corpus.vocabulary.words}
    assert len(corpus.vocabulary) <= 20
    assert sum(corpus.meta["parts"][part]["sentences"] for part in ("train", "dev", "test")) == 400


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"column": "body"}, "data.column=body: .* has no text there; its columns are id, text"),
        ({"max_rows": 0}, "data.max_rows=0 must be at least 1"),
        ({"column": None}, "give the dataset and the column of its text"),
        ({"path": "no/such-dataset"}, "cannot open the dataset data.path=no/such-dataset"),
        ({"split": "validation"}, "cannot open the dataset"),
    ],
)
def test_what_is_not_there_is_one_message(
    changes: dict[str, str], message: str, config: CorpusConfig, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        prepare_corpus(CorpusConfig(**(vars(config) | changes)), tmp_path / "corpora")
