"""Generated text: the layout, the words and the lengths that are asked for, the same each time."""

from collections import Counter
from pathlib import Path

import pytest

from outrageous.data.generated import generate, spell


def test_spelled_words_are_different_and_the_frequent_ones_short() -> None:
    words = spell(6000)
    assert len({*words[:-1]}) == 6000
    assert (len(words[0]), len(words[69]), len(words[70]), len(words[-2])) == (3, 3, 5, 7)  # a space behind each
    assert words[-1] == b"\n"


def test_text_of_the_size_and_form_asked_for(tmp_path: Path) -> None:
    generate(tmp_path, num_words=99_000, num_types=500, seed=1)
    names = sorted(file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file())
    assert len(names) == 99 + 2
    assert names[0] == "heldout-monolingual.tokenized.shuffled/news.en.heldout-00000-of-00050"
    assert names[-1] == "training-monolingual.tokenized.shuffled/news.en-00099-of-00100"
    shards = [tmp_path / name for name in names[2:]]
    assert len({shard.read_bytes() for shard in shards}) == 99
    lines = [line for shard in shards for line in shard.read_text().splitlines()]
    counts = Counter(word for line in lines for word in line.split())
    assert 0.94 * 99_000 < counts.total() <= 99_000  # a line break takes the place of a word
    # p(0) = log 2 / log 501 = 0.1115 and p(9) = log(11/10) / log 501 = 0.0153: standard errors 0.001 and 0.0004
    by_rank = [word.decode().strip() for word in spell(500)]
    assert counts[by_rank[0]] / counts.total() == pytest.approx(0.1115, abs=0.005)
    assert counts[by_rank[9]] / counts.total() == pytest.approx(0.0153, abs=0.002)
    assert counts.total() / len(lines) == pytest.approx(24.5, abs=1.5)  # the last sentence of a shard is cut short
    assert all(line == line.strip() and "  " not in line for line in lines)


def test_the_same_seed_gives_the_same_bytes_and_what_is_there_stays(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        generate(tmp_path / name, num_words=9_900, num_types=50, seed=seed)
    one, same, other = (
        [file.read_bytes() for file in sorted((tmp_path / name).rglob("news*"))] for name in ("one", "same", "other")
    )
    assert one == same != other
    kept = tmp_path / "one" / "training-monolingual.tokenized.shuffled" / "news.en-00003-of-00100"
    kept.write_text("kept\n")
    generate(tmp_path / "one", num_words=9_900, num_types=50, seed=1)
    assert kept.read_text() == "kept\n"
