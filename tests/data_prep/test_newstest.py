"""The sets that sacrebleu would download, given to it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from loopback import Loopback
from sacrebleu.dataset import DATASETS

from data_prep.prepare import prepare
from data_prep.sources import Source
from outrageous.errors import UserError


@pytest.fixture
def newstest(sources: dict[str, list[Source]]) -> list[Source]:
    return sources["newstest"]


def test_sacrebleu_reads_the_sets_without_a_network(
    newstest: list[Source], server: Loopback, tmp_path: Path, sacrebleu_home: Path
) -> None:
    folders = prepare(newstest, tmp_path, server.url)
    assert folders == [sacrebleu_home / "wmt12", sacrebleu_home / "wmt13", sacrebleu_home / "wmt14" / "full"]
    done = subprocess.run(
        [sys.executable, "-m", "sacrebleu", "-t", "wmt14/full", "-l", "en-de", "--echo", "src", "ref"],
        env={**os.environ, "SACREBLEU": str(sacrebleu_home), "no_proxy": "*"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3003
    assert lines[41] == "newstest2014-deen-src.en.sgm 42 &amp;\tnewstest2014-deen-ref.de.sgm 42 &amp;"
    assert "Downloading" not in done.stderr


def test_given_again_nothing_is_fetched_though_the_archives_are_gone(
    newstest: list[Source], server: Loopback, tmp_path: Path
) -> None:
    prepare(newstest, tmp_path / "here", server.url)
    prepare(newstest, tmp_path / "there", server.url)
    assert len(server.served) == 3


def test_text_that_was_cut_off_is_made_again(
    newstest: list[Source], server: Loopback, tmp_path: Path, sacrebleu_home: Path
) -> None:
    prepare(newstest, tmp_path, server.url)
    text = Path(DATASETS["wmt13"].get_source_file("en-fr"))
    whole = text.read_bytes()
    text.write_bytes(whole[:1000])
    prepare(newstest, tmp_path, server.url)
    assert text.read_bytes() == whole


def test_a_set_of_another_length_is_refused(
    monkeypatch: pytest.MonkeyPatch, newstest: list[Source], server: Loopback, tmp_path: Path
) -> None:
    monkeypatch.setattr("data_prep.newstest.NUM_LINES", {"wmt12": 3003, "wmt13": 3003, "wmt14/full": 3003})
    with pytest.raises(UserError, match=r"wmt13\.en-de\.src has 3,000 lines, not 3,003: .* not the published archive"):
        prepare(newstest, tmp_path, server.url)
