"""What there is to read of a run beside its figures: some of its translations, and some of its experts (table 9)."""

from pathlib import Path

from outrageous.results.expert_tables import experts_markdown, some_experts
from outrageous.results.files import read_text
from outrageous.results.translation_samples import Translated, from_lines, sampled, samples_markdown, to_lines

EXPERTS = "experts.txt"
TRANSLATIONS = "translations.{direction}.txt"


def kept(folder: Path) -> dict[str, bytes]:
    """File names to contents: what a run left to be read, shortened to what `samples` shows of it, to be kept with its
    record. Raises UserError for a damaged file."""
    files = {path.name: to_lines(sampled(_translated(path))) for path in _translations(folder)}
    if (folder / EXPERTS).exists():
        files[EXPERTS] = some_experts(read_text(folder / EXPERTS))
    return {name: text.encode() for name, text in files.items()}


def samples(folders: dict[str, Path], scale: str, command: str) -> dict[str, bytes]:
    """File names to contents: the same sentences by every run, and some experts of each, where there are any.

    folders: title -> where the run, or what is kept of it, lies.
    Raises UserError for a damaged file.
    """
    directions: dict[str, dict[str, Translated]] = {}
    for title, folder in folders.items():
        for path in _translations(folder):
            directions.setdefault(path.name.split(".")[1], {})[title] = _translated(path)
    experts = {title: read_text(path / EXPERTS) for title, path in folders.items() if (path / EXPERTS).exists()}
    files = {}
    if directions:
        files[f"translations_{scale}.md"] = samples_markdown(directions, scale, command).encode()
    if experts:
        files[f"table_9_{scale}.md"] = experts_markdown(experts, scale, command).encode()
    return files


def _translations(folder: Path) -> list[Path]:
    return sorted(folder.glob(TRANSLATIONS.format(direction="*")))


def _translated(path: Path) -> Translated:
    return from_lines(read_text(path), str(path))
