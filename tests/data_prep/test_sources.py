"""What sources.yaml states."""

import re

from sacrebleu.dataset import DATASETS

from data_prep.newstest import PAIRS
from data_prep.sources import FileGroup, read_sources


def test_one_billion_word_is_the_published_archive_with_its_149_shards() -> None:
    (source,) = read_sources()["lm1b"]
    assert source.archive_name == "1-billion-word-language-modeling-benchmark-r13output.tar.gz"
    assert source.size == 1_792_209_805
    training, held_out, test, dev = source.files
    assert (len(training.names), training.names[0][-22:], training.names[-1][-22:], training.lines) == (
        99,
        "news.en-00001-of-00100",
        "news.en-00099-of-00100",
        30_301_028,
    )
    assert len(held_out.names) == 50
    assert test == FileGroup((held_out.names[0],), 6075, "ce1e84fb6d856ced56ba2c551104f6ac")
    assert dev == FileGroup((held_out.names[1],), 6206, "ca9f6fb688aaee07abf88b5c8ab1c8f2")
    assert len(source.names) == 149  # test and dev are two of the 50


def test_both_sides_of_a_wmt14_corpus_have_the_same_number_of_lines() -> None:
    """The sums: 1,920,209 + 2,399,123 + 201,288 for German; 2,007,723 + … + 22,520,376 for French."""
    corpora = read_sources()
    lines = {
        name: group.lines or group.reported_lines
        for source in corpora["wmt14-both"] + corpora["wmt14-en-fr"]
        for group in source.files
        for name in group.names
    }
    german = sorted(name for name in lines if name.endswith(".de"))
    french = sorted(name for name in lines if name.endswith(".fr"))
    assert all(lines[name] == lines[f"{name[:-2]}en"] for name in german + french)
    assert len(lines) == 2 * len(german + french)
    assert sum(lines[name] or 0 for name in german) == 4_520_620
    assert sum(lines[name] or 0 for name in french) == 40_842_333


def test_counts_of_a_secondary_source_refuse_nothing_and_stand_where_a_checksum_does() -> None:
    sources = [source for entries in read_sources().values() for source in entries]
    reported = [(source, group) for source in sources for group in source.files if group.reported_lines]
    assert len(reported) == 6  # three corpora, German and English
    assert all(group.lines is None and source.checksum for source, group in reported)


def test_every_address_and_checksum_is_well_formed() -> None:
    sources = [source for entries in read_sources().values() for source in entries]
    assert len({source.archive_name for source in sources}) == len(sources) == 9
    for source in sources:
        assert re.match(r"https?://(www\.)?statmt\.org/", source.url)
        assert source.checksum is None or re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", source.checksum)
        assert source.unpacked_size > 0


def test_the_test_sets_are_those_of_sacrebleu() -> None:
    for source in read_sources()["newstest"]:
        dataset = DATASETS[str(source.sacrebleu)]
        assert [source.url] == dataset.data
        assert [source.checksum] == [f"md5:{md5}" for md5 in dataset.md5 or []]
        files = {file for pair in PAIRS for file in dataset.langpairs[pair]}
        assert files == {f"{source.inside}/{name}" for name in source.names}
