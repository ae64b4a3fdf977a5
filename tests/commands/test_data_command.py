"""Corpora on the command line: prepared, shown, generated."""

from pathlib import Path

import pytest

from outrageous.commands.data import main


def test_a_corpus_is_shown(tiny_corpus: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    settings = [setting for setting in tiny_corpus if not setting.startswith("model.")]
    assert main(["inspect", *settings]) == 0
    shown = capsys.readouterr().out
    # 40 blocks of 10 sentences: 4 for dev, 4 for test
    assert any(line.split()[:2] == ["train", "320"] for line in shown.splitlines())
    assert any(line.split()[:2] == ["64", "100.00%"] for line in shown.splitlines())  # all 64 words, and no others
    assert "fingerprint" in shown
    assert "###" in shown
    *_, sample, svg, png = shown.rstrip().splitlines()
    assert shown.rstrip().splitlines()[-8] == "some of training"
    assert sample.startswith("  ")
    assert "train: mean" in Path(svg.removeprefix("drawn: ")).read_text()
    assert Path(png.removeprefix("drawn: ")).read_bytes().startswith(b"\x89PNG")
    assert main(["prepare", *settings]) == 0
    assert "words of training" in capsys.readouterr().out


def test_a_corpus_of_pairs_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """40 pairs in 20 blocks, of which dev and test get two each; a word has no translation and one is too long."""
    text = tmp_path / "pairs.tsv"
    words = [first + second for first in "bdfgklm" for second in ("ad", "el", "in", "or", "uk", "ys")]
    rows = [f"the {word}{word} is {word}\tdas {word}{word} ist {word}" for word in words[:38]]
    text.write_text("".join(f"{row}\n" for row in ["none\t", "a\t" + "b " * 120, *rows]))
    settings = [
        *("scale=smoke", "data=pairs", "data.directions=[en-de]", f"data.path={text}"),
        *("data.vocabulary_size=60", "data.block_lines=2", "data.dev_fraction=0.1", "data.test_fraction=0.1"),
        f"paths.corpora={tmp_path}/corpora",
    ]
    assert main(["inspect", *settings]) == 0
    shown = capsys.readouterr().out.splitlines()
    counts = {line.split()[0]: line for line in shown if line.split()[1:2] == ["en-de"]}
    assert {part: line.split()[2] for part, line in counts.items()} == {"train": "30", "dev": "4", "test": "4"}
    assert counts["train"].endswith("1 empty, 1 too_long")
    assert counts["dev"].endswith("none")
    assert any(line.startswith("wordpieces of a sentence (training targets): mean") for line in shown)
    samples = shown[shown.index("some of training") + 1 : -2]
    for source, target in zip(samples[::2], samples[1::2], strict=True):
        assert target.split() == source.replace("the ", "das ").replace(" is ", " ist ").split()
    assert Path(shown[-1].removeprefix("drawn: ")).read_bytes().startswith(b"\x89PNG")
    assert main(["prepare", "experiment=mt/moe_32", *settings]) == 0
    assert "30 pairs of training" in capsys.readouterr().out


def test_generated_text_can_be_prepared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(tmp_path), "--words", "9900", "--types", "100"]) == 0
    held_out = tmp_path / "heldout-monolingual.tokenized.shuffled"
    settings = [
        f"data.path={tmp_path}/training-monolingual.tokenized.shuffled/news.en-0000?-of-00100",
        f"data.dev_path={held_out}/news.en.heldout-00001-of-00050",
        f"data.test_path={held_out}/news.en.heldout-00000-of-00050",
        f"paths.corpora={tmp_path}/corpora",
    ]
    assert main(["prepare", "data=lm1b", *settings]) == 0
    assert "not the test set of One Billion Word" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "somewhere", "--words", "5"], "--words 5"),
        (["inspect", "data=text"], "data.path"),
        (["inspect", "data=nothing"], "there is no data/nothing"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
