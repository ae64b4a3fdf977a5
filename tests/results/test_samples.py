"""What a run leaves to be read is kept with its record, and is shown alike from either place."""

from pathlib import Path

import pytest

from outrageous.errors import UserError
from outrageous.results.expert_tables import ExpertUse, to_text
from outrageous.results.samples import kept, samples
from outrageous.results.specialisation import Context, Specialisation
from outrageous.results.translation_samples import NUM_SAMPLES, Translated, to_lines


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run: a test part of 100 sentences, and experts."""
    folder = tmp_path / "run"
    folder.mkdir()
    source, reference, ours = ([f"{side} {i}" for i in range(100)] for side in ("source", "reference", "ours"))
    (folder / "translations.en-de.txt").write_text(to_lines(Translated(source, reference, ours, "nrefs:1")))
    statistics = Specialisation(bits=1.5, shuffled_mean=0.25, shuffled_std=0.01, token_entropy=4.0)
    contexts = {expert: [Context(1.0, "to the", "sea", "")] for expert in range(40)}
    use = ExpertUse("encoder", 400, 40, statistics, [10] * 40, contexts)
    (folder / "experts.txt").write_text(to_text([use], "moe_32 seed 0, test part"))
    return folder


def test_what_is_kept_is_little_and_shows_the_same(run: Path, tmp_path: Path) -> None:
    record = tmp_path / "record"
    record.mkdir()
    for name, content in kept(run).items():
        (record / name).write_bytes(content)
        assert len(content) < 0.3 * len((run / name).read_bytes())
    files = samples({"moe_32 seed 0": run}, "smoke", "a command")
    assert files == samples({"moe_32 seed 0": record}, "smoke", "a command")
    assert [*files] == ["translations_smoke.md", "table_9_smoke.md"]
    assert files["translations_smoke.md"].decode().count("- moe_32 seed 0: ours ") == NUM_SAMPLES
    assert files["table_9_smoke.md"].decode().count("    encoder, expert ") == 4


def test_a_run_that_leaves_nothing_to_be_read_has_no_files(tmp_path: Path) -> None:
    assert kept(tmp_path) == {}
    assert samples({"lm/moe_4 seed 0": tmp_path}, "smoke", "a command") == {}


def test_translations_that_are_damaged_are_named(run: Path) -> None:
    (run / "translations.en-de.txt").write_text("sacreBLEU: nrefs:1\n\nsource  half")
    with pytest.raises(UserError, match=r"translations\.en-de\.txt is damaged"):
        kept(run)
