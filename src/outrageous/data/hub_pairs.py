"""Training pairs from a data set of the Hugging Face hub, dev and test pairs from the sets that sacrebleu knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outrageous.config import HubPairsConfig, ParallelCorpusConfig
from outrageous.data.pairs import Row, check_languages, parse_directions
from outrageous.data.prepared import Unfinished
from outrageous.data.text import file_sha256
from outrageous.data.wordpieces import as_learnt
from outrageous.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

ROWS_AT_ONCE = 1000


class HubPairs:
    """A data set with a column `translation`, and official test sets, which are kept whole."""

    drops_duplicates = False

    def __init__(self, config: ParallelCorpusConfig, hub: HubPairsConfig) -> None:
        """Raises UserError if the directions make no sense or data.path is no name."""
        if not isinstance(config.path, str):
            raise UserError(f"data.path={config.path!r} must be the name of a data set or a local folder")
        self._path, self._hub = config.path, hub
        self._directions = parse_directions(config)

    def identity(self) -> dict[str, Any]:
        """Its name, since the settings have the commit; of a local folder the bytes of its files."""
        if not self._is_local:
            return {"path": self._path}
        folder = Path(self._path)
        return {"path": [[file.relative_to(folder).as_posix(), file_sha256(file)] for file in self._local_files()]}

    @property
    def num_rows(self) -> int:
        return self._hub.num_pairs + sum(sum(sets.values()) for sets in self._sets().values())

    def rows(self, start: int = 0) -> Iterator[tuple[str, Row]]:
        # The small sets first: what is wrong with them shows before the large download.
        held_out = [(part, row) for part, sets in self._sets().items() for row in self._official(sets)]
        if start < self._hub.num_pairs:
            for batch in self._load().skip(start).iter(ROWS_AT_ONCE):
                for texts in batch["translation"]:
                    yield "train", {language: as_learnt(text or "") for language, text in texts.items()}
        yield from held_out[max(0, start - self._hub.num_pairs) :]

    def held_out(self) -> dict[str, Any]:
        return {"held_out_sets": self._sets()}

    def _sets(self) -> dict[str, dict[str, int]]:
        return {"dev": dict(self._hub.dev_sets), "test": dict(self._hub.test_sets)}

    def _load(self) -> Dataset:
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError

        wanted = f"data.path={self._path} (data.hub.subset={self._hub.subset}, revision {self._hub.revision})"
        try:
            if self._is_local:  # by its files: datasets 5.2 does not see that those of a named subset have changed
                dataset = load_dataset("parquet", data_files=list(map(str, self._local_files())), split="train")
            else:
                dataset = load_dataset(self._path, self._hub.subset, split="train", revision=self._hub.revision)
        except (DatasetsError, OSError, ValueError) as error:
            reason = str(error).strip().split("\n")[0]
            raise Unfinished(
                f"cannot load {wanted}: {reason or type(error).__name__}. Where the hub is not to be reached, "
                "data_prep/README.md says what stands in for WMT'14"
            ) from error
        if "translation" not in dataset.column_names:
            raise UserError(f"{wanted} has no column `translation` but {', '.join(dataset.column_names)}")
        if len(dataset) != self._hub.num_pairs:
            raise UserError(
                f"{wanted} has {len(dataset):,} training pairs, not data.hub.num_pairs={self._hub.num_pairs:,}: it is "
                "another data set, or not whole"
            )
        known = list(dataset[0]["translation"]) if len(dataset) else []
        check_languages(self._directions, known, wanted)
        return dataset

    @property
    def _is_local(self) -> bool:
        return Path(self._path).is_dir()

    def _local_files(self) -> list[Path]:
        files = sorted((Path(self._path) / self._hub.subset).glob("train-*.parquet"))
        if not files:
            raise UserError(f"the folder data.path={self._path} has no {self._hub.subset}/train-*.parquet")
        return files

    def _official(self, sets: dict[str, int]) -> Iterator[Row]:
        """Pairs of sacrebleu's sets, which it downloads and verifies if they are not there yet."""
        from sacrebleu.dataset import DATASETS

        source, target = next(iter(self._directions.values()))  # the other way round they are the same sentences
        for name, num_pairs in sets.items():
            if name not in DATASETS:
                raise UserError(f"data.hub: sacrebleu has no test set {name!r}; `sacrebleu --list` names them")
            dataset = DATASETS[name]
            if f"{source}-{target}" not in dataset.langpairs:
                raise UserError(f"data.directions: sacrebleu's {name} is not for {source}-{target}")
            try:
                sources = _lines(Path(dataset.get_source_file(f"{source}-{target}")))
                targets = _lines(Path(dataset.get_reference_files(f"{source}-{target}")[0]))
            except (SystemExit, OSError) as error:  # sacrebleu exits where what it has downloaded is damaged
                raise Unfinished(
                    f"cannot get sacrebleu's set {name}: {error}; its folder is ~/.sacrebleu, or what SACREBLEU names, "
                    "and `make data-wmt14` puts it there"
                ) from error
            if not len(sources) == len(targets) == num_pairs:
                raise UserError(
                    f"sacrebleu's {name} has {len(sources)} sources and {len(targets)} targets, where {num_pairs} are "
                    "expected; delete its folder in ~/.sacrebleu, or in what SACREBLEU names, and try again"
                )
            yield from ({source: s, target: t} for s, t in zip(sources, targets, strict=True))


def _lines(file: Path) -> list[str]:
    """The lines of a test set, which may be empty."""
    return [as_learnt(line) for line in file.read_text(encoding="utf-8").removesuffix("\n").split("\n")]
