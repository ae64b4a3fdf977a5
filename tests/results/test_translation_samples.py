"""Translations come back as they were written, and stand side by side."""

import pytest

from outrageous.errors import UserError
from outrageous.results.translation_samples import (
    NUM_SAMPLES,
    Translated,
    from_lines,
    sampled,
    samples_markdown,
    to_lines,
)


def part(number: int, mark: str) -> Translated:
    source, reference, translation = ([f"{side} {i}" for i in range(number)] for side in ("source", "reference", mark))
    return Translated(source, reference, translation, "nrefs:1")


@pytest.mark.parametrize("number", [0, 1, 5])
def test_what_is_written_is_read(number: int) -> None:
    whole = part(number, "ours")
    assert from_lines(to_lines(whole), "a.txt") == whole


def test_empty_translations_and_any_characters_come_back() -> None:
    odd = Translated(["a\tb", ""], ["translation  x", "é ▁"], ["", "source"], "nrefs:1")
    assert from_lines(to_lines(odd), "a.txt") == odd


@pytest.mark.parametrize("lost", [1, 2, 20])
def test_a_file_that_is_cut_short_is_refused(lost: int) -> None:
    lines = to_lines(part(3, "ours")).split("\n")
    with pytest.raises(UserError, match=r"a\.txt is damaged"):
        from_lines("\n".join(lines[:-1][:-lost]), "a.txt")


def test_models_stand_side_by_side_and_text_is_no_markdown() -> None:
    marked = Translated(["*a*"], ["_b_"], ["<c>"], "nrefs:1")
    text = samples_markdown({"en-de": {"moe_0": marked, "moe_32": part(1, "ours")}}, "smoke", "a command")
    assert "## en-de\n\n- source: \\*a\\*\n- reference: \\_b\\_\n- moe_0: \\<c\\>\n- moe_32: ours 0\n" in text
    many = samples_markdown({"en-de": {"moe_0": part(100, "ours")}}, "smoke", "a command")
    assert many.count("- source: ") == NUM_SAMPLES
    assert "source 0\n" in many
    assert "source 91\n" in many  # 11 · 100 // 12


def test_a_sample_of_a_sample_is_the_same() -> None:
    few = sampled(part(100, "ours"))
    assert few.sources[:3] == ["source 0", "source 8", "source 16"]  # 0, 100/12, 200/12
    assert few.translations[-1] == "ours 91"
    assert sampled(few) == few
    assert sampled(part(3, "ours")) == part(3, "ours")
    assert sampled(part(0, "ours")) == part(0, "ours")
