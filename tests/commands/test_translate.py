"""Lines are translated in their order, whatever they hold; options and mistakes of the user."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from outrageous.commands import translate
from outrageous.commands.compose import run_config
from outrageous.data.wordpieces import learn_wordpieces
from outrageous.training.run import run
from outrageous.training.translator import Translation

Run = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def run_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """A function from bytes of standard input and arguments to the exit code, the lines of stdout, and stderr."""

    def call(text: bytes, *arguments: object) -> tuple[int, list[str], str]:
        file = tmp_path / "standard_input"
        file.write_bytes(text)
        capsys.readouterr()
        with file.open(encoding="utf-8") as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            try:
                code = translate.main([str(argument) for argument in arguments])
            except SystemExit as stopped:
                code = int(stopped.code or 0)
        output = capsys.readouterr()
        assert output.out.endswith("\n") or not output.out
        return code, output.out.split("\n")[:-1], output.err

    return call


class Shouting:
    """In place of a translator: capitals. Remembers how many lines came at once."""

    max_pieces = 512

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def translate(
        self, lines: Sequence[str], target: str, keep_attention: bool, done: Callable[[int], object]
    ) -> tuple[list[list[Translation]], list[int]]:
        self.sizes.append(len(lines))
        return [[Translation(line.upper(), -0.5, [], [], None)] for line in lines], []


def test_every_line_has_its_translation_in_its_place(run_command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shouting = Shouting()
    monkeypatch.setattr(translate, "_load", lambda *_: (shouting, "de"))
    lines = ["" if i % 7 == 0 else f"line {i} \u2028 \x85 \x0b ⁂" for i in range(600)]  # no line ends to us
    text = "\n".join(lines).encode()  # the last line has no end
    code, output, _ = run_command(text, "checkpoint=a.ckpt")
    assert code == 0
    assert output == [line.upper() for line in lines]
    assert shouting.sizes == [256, 256, 88]


def test_lines_are_translated_when_no_further_one_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As from a program that waits for an answer before it writes on."""
    monkeypatch.setattr(translate, "PAUSE", 0.01)
    read, write = os.pipe()
    with os.fdopen(read, "rb") as stdin:
        chunks = translate._chunks(translate._lines(stdin), 256)
        os.write(write, b"one\r\ntwo\nth")
        assert next(chunks) == ["one", "two"]  # though the third has begun
        os.write(write, b"r")
        os.write(write, b"ee\n\nfive")
        os.close(write)
        assert list(chunks) == [["three", "", "five"]]


@pytest.mark.parametrize("name", ["stdin", "stdout"])
def test_a_stream_that_is_closed(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, name, None)
    with pytest.raises(SystemExit) as stopped:
        translate.main(["a.ckpt"])
    assert stopped.value.code == 2
    assert f"{name} is closed" in capsys.readouterr().err


def test_output_is_utf_8_whatever_the_locale(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(translate, "_load", lambda *_: (Shouting(), "de"))
    (tmp_path / "in").write_bytes("ä\u2028⁂\n".encode())
    with (tmp_path / "in").open(encoding="ascii") as stdin, (tmp_path / "out").open("w", encoding="ascii") as stdout:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stdout", stdout)
        assert translate.main(["a.ckpt"]) == 0
    assert (tmp_path / "out").read_bytes() == "Ä\u2028⁂\n".encode()


def test_what_stands_before_a_line_that_is_not_text_is_translated(
    run_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translate, "_load", lambda *_: (Shouting(), "de"))
    code, output, said = run_command(b"\xef\xbb\xbfone\r\ntwo\nthr\xffee\nfour\n", "a.ckpt", "--scores")
    assert code == 2
    assert output == ["-0.5000\tONE", "-0.5000\tTWO"]
    assert "line 3 is not UTF-8: byte 4 is 0xff; the 2 lines before it are translated" in said


def test_ctrl_c_says_what_is_written(run_command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shouting = Shouting()
    real = shouting.translate

    def interrupted(*arguments: object) -> object:
        if shouting.sizes:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(shouting, "translate", interrupted)
    monkeypatch.setattr(translate, "_load", lambda *_: (shouting, "de"))
    code, output, said = run_command(b"a\n" * 300, "a.ckpt")
    assert code == 130
    assert output == ["A"] * 256
    assert "256 lines are translated and written" in said


def test_ctrl_c_while_pictures_are_drawn_says_what_is_written(
    run_command: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def drawn(translation: Translation, path: Path) -> None:
        if path.name == "line_3.png":
            raise KeyboardInterrupt

    monkeypatch.setattr(translate, "_draw", drawn)
    monkeypatch.setattr(translate, "_load", lambda *_: (Shouting(), "de"))
    code, output, said = run_command(b"a\n" * 9, "a.ckpt", "--attention", tmp_path)
    assert code == 130
    assert output == ["A"] * 2
    assert "2 lines are translated and written" in said


def test_n_best_scores_attention_and_lines_that_are_cut(
    run_command: Run, trained_translation: Path, tmp_path: Path
) -> None:
    checkpoint = f"checkpoint={trained_translation / 'best.ckpt'}"
    text = "cat dog\n\n" + "bird " * 40 + "\nriver ⁂ \U0001f409 stone\n"
    options = ["--n-best", 2, "--beams", 3, "--scores", "--attention", tmp_path / "images", "--max-pieces", 20]
    code, output, said = run_command(text.encode(), checkpoint, *options)
    assert code == 0, said
    assert len(output) == 8  # two for each line, also for the empty one
    assert output[2:4] == ["0.0000\t", "\t"]
    for first, second in (output[:2], output[4:6], output[6:8]):
        assert re.fullmatch(r"-\d+\.\d{4}\t.*", first)
        assert second == "\t" or float(second.split("\t")[0]) <= float(first.split("\t")[0])
    assert "line 3: cut after 20 wordpieces" in said
    assert said.count(": cut after") == 1
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["line_1.png", "line_3.png", "line_4.png"]
    assert (tmp_path / "images" / "line_4.png").read_bytes().startswith(b"\x89PNG")

    code, greedy, _ = run_command(text.encode(), checkpoint, "--beams", 1, "--max-pieces", 20)
    assert code == 0
    assert len(greedy) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n-best", "5"], "--n-best 5: must lie between 1 and --beams 4"),
        (["--n-best", "0"], "--n-best 0: must lie between 1 and --beams 4"),
        (["--beams", "-1"], "--beams -1: must be at least 1"),
        (["--attention", __file__], "test_translate.py: is a file; name a folder"),
        (["--max-pieces", "1"], "--max-pieces 1: must be at least 2"),
        (["--to", "fr"], "--to fr: mt/moe_32_en_de translates into de; name one of these"),
    ],
)
def test_options_that_do_not_fit(
    run_command: Run, trained_translation: Path, arguments: list[str], message: str
) -> None:
    code, output, said = run_command(b"cat\n", trained_translation / "best.ckpt", *arguments)
    assert (code, output) == (2, [])
    assert message in said


def test_checkpoints_that_do_not_fit(
    run_command: Run, trained_translation: Path, tiny_corpus: list[str], tmp_path: Path
) -> None:
    code, _, said = run_command(b"cat\n", "checkpoint=nowhere.ckpt")
    assert code == 2
    assert "checkpoint nowhere.ckpt does not exist" in said

    settings = ["experiment=lm/moe_4", *tiny_corpus, "trainer.max_steps=1", f"paths.runs={tmp_path / 'runs'}"]
    language_model = run(run_config(settings), row=None)[1].best_checkpoint
    code, _, said = run_command(b"cat\n", language_model)
    assert code == 2
    assert "is of lm/moe_4, a language model" in said

    alone = tmp_path / "best.ckpt"
    alone.write_bytes((trained_translation / "best.ckpt").read_bytes())
    (tmp_path / "wordpieces.model").write_bytes(b"no model")
    code, _, said = run_command(b"cat\n", alone)
    assert code == 2
    assert "wordpieces.model is not a sentencepiece model" in said

    learn_wordpieces(["some other words here"] * 5, 20).save(tmp_path / "wordpieces.model")
    code, _, said = run_command(b"cat\n", alone)
    assert code == 2
    assert re.search(r"was trained with wordpieces \w+, but those beside it are \w+: restore", said)
