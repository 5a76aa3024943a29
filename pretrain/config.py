"""The options of a pretraining run."""

from dataclasses import dataclass, field, replace
from typing import Literal

from bert.config import ModelOptions
from bert.tokenizer import TokenizerConfig
from bert.training.config import TrainingConfig
from bert.training.tracking import TrackingConfig
from pretrain.documents import FORMATS
from pretrain.examples import TRUNCATION
from pretrain.inputs import INPUTS
from pretrain.masking import MASKING
from pretrain.negatives import NEGATIVES
from pretrain.objectives import OBJECTIVES
from pretrain.readers import READERS
from pretrain.sentence import SENTENCE

TOKENIZE = ("store", "on_the_fly")


@dataclass(frozen=True)
class DataConfig:
    """The corpus, and how it is read."""

    train: list[str] | str = "builtin"
    """The corpus: text files (one sentence per line, a blank or [EOD] line between documents) or JSONL files. A file,
    a pattern in quotes ('shards/*.txt'), or a list of both ("[a.txt, b.txt]"); no document extends over two files.
    `builtin` is the documentation inside the Python interpreter, 1.3 MB of English."""

    exponent: float = 1.0
    """Several files: each is drawn from in proportion to its text, in bytes, to this power. 1: all are read once in an
    epoch. 0.7, as for multilingual BERT: the largest once, smaller ones more often. 0: all make up the same share."""

    valid: list[str] | str | None = None
    """A separate corpus to validate on, named likewise. Without it, some documents of data.train are held out."""

    valid_share: float = 0.05
    """Share of the documents held out when there is no data.valid: those whose text hashes lowest, so that
    copies of a document never fall on both sides."""

    format: Literal[*FORMATS] = "text"
    """What the files hold: text, or jsonl (one JSON object per line is one document)."""

    text: str = "text"
    """jsonl: the field with the text."""

    on_bad_row: Literal["error", "skip"] = "error"
    """jsonl: what becomes of a line that is not JSON or has no string in that field. error: it stops the run, before
    anything is made of the text. skip: it is left out and counted. What is not UTF-8 is an error in any case."""

    split_sentences: bool | None = None
    """Split lines into sentences. By default jsonl is split and text, one sentence per line already, is not."""

    reader: Literal[*READERS] = "mmap"
    """How lines are read: mmap (memory does not grow with the file) or linecache (the whole file in memory)."""

    tokenize: Literal[*TOKENIZE] = "store"
    """store: the corpus is tokenised once, to disk. on_the_fly: lines are tokenised when they are needed; the same
    batches, slower."""

    max_length: int = 128
    """Maximum tokens in a sequence, special ones included."""

    copies: int = 0
    """Draw pairs and order only this many times, then repeat them; 0 draws new ones in every epoch."""

    verify: bool = False
    """Read the whole token store and compare it with what was written, instead of only its sizes and times."""

    cache: str = "runs/cache"
    """The folder for what is built once and reused: line indexes, token stores."""

    @property
    def splits_sentences(self) -> bool:
        """Whether sentences are looked for within lines."""
        return FORMATS[self.format].document_per_line if self.split_sentences is None else self.split_sentences


@dataclass(frozen=True)
class SentenceConfig:
    """What the model learns from pairs of sentences."""

    objective: Literal[*SENTENCE] = "nsp"
    """nsp: does B follow A? sop: are A and B in order, or swapped? none: no sentence loss."""

    input: Literal[*INPUTS] = "segment_pair"
    """segment_pair: two segments of several sentences. sentence_pair: two single sentences. doc_sentences: one segment
    of whole sentences from one document. full_sentences: the same, continuing into the next document after a [SEP]. The
    last two have no pairs: objective none only."""

    negatives: Literal[*NEGATIVES] = "other_document"
    """nsp: where a random B comes from: another document, the same one, anywhere but where the true B starts, or
    another document of the same file. The last is for files in different languages, which would give the label away."""

    random_share: float = 0.5
    """Share of pairs with label 1: whose B is random (nsp), or that are swapped (sop)."""

    remainder: Literal["reuse", "drop"] = "reuse"
    """nsp: after a random B, the sentences that truly followed A begin the next example (as in the paper's code), or
    are dropped."""

    short_seq_prob: float = 0.1
    """Share of examples cut to a random shorter length; not for sentence_pair."""

    truncation: Literal[*TRUNCATION] = "longest_first"
    """What is cut from an example that is too long: the longer segment's tokens, from a random end (the paper), or the
    second segment's last (the original Korean BERT)."""

    @property
    def needs_another_document(self) -> bool:
        """Whether a B is drawn from a document other than A's."""
        return SENTENCE[self.objective].replaces_b and not NEGATIVES[self.negatives].own_document

    @property
    def judged_on(self) -> "dict[str, SentenceConfig]":
        """The pairs to evaluate on, half of them with label 1: by objective, first this one, then the others'."""
        if not SENTENCE[self.objective].labelled:
            return {}
        own = replace(self, random_share=0.5)
        others = {
            name: replace(own, objective=name, negatives=SentenceConfig.negatives, remainder=SentenceConfig.remainder)
            for name, objective in SENTENCE.items()
            if objective.labelled and name != self.objective
        }
        return {self.objective: own} | others


@dataclass(frozen=True)
class MaskingConfig:
    """Which tokens are predicted, and what stands in their place."""

    strategy: Literal[*MASKING] = "whole_word"
    """What is masked as a unit: a token; all tokens of a word; an n-gram of one to three words; a span of one to
    ten."""

    rate: float = 0.15
    """Share of the maskable tokens to predict. BERT 0.15; 0.30 to 0.40 often learns faster at equal compute."""

    rate_end: float | None = None
    """Change the rate linearly from `rate` to this one over the run (0.30 to 0.15, say)."""

    count: Literal["fixed", "bernoulli"] = "fixed"
    """fixed: single tokens make up the rate's share of each sequence exactly (rounded); words, n-grams and spans do on
    average, and single sequences scatter around it. bernoulli: each unit is drawn independently; they scatter more."""

    mask_share: float = 0.8
    """Share of the chosen tokens that becomes [MASK]."""

    random_share: float = 0.1
    """Share of the chosen tokens that becomes random ordinary ones; the rest stays as it is."""

    static: bool = False
    """Repeat the masks with data.copies, instead of drawing new ones in every epoch."""


CHECKS = (
    "mask_rate",
    "mask_share",
    "random_share",
    "masked_special",
    "replaced_by_special",
    "units_of_two_fates",
    "words_in_parts",
    "span_lengths",
    "label_share",
    "label_by_length",
    "label_by_sides",
    "labels_wrong",
    "texts_differ",
    "negatives_true",
    "negatives_document",
    "negatives_file",
    "validation_in_training",
)
"""What the audit checks, by name."""


@dataclass(frozen=True)
class AuditConfig:
    """What the sampler really does, held against what was asked."""

    sequences: int = 10_000
    """Sequences checked before a run begins, or by `run.py audit`; 0 for none."""

    allow: list[Literal[*CHECKS]] = field(default_factory=list)
    """Breaches, by name, that do not stop a run."""


@dataclass(frozen=True)
class PretrainConfig:
    """Pretrain a BERT."""

    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: ModelOptions = field(default_factory=ModelOptions)
    sentence: SentenceConfig = field(default_factory=SentenceConfig)
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(batch_size=None, lr=None))
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    init: str | None = None
    """Continue pretraining a model on your own text (domain adaptation), with its tokenizer and sizes: any BERT or
    RoBERTa folder of this project or of transformers, or an id on the Hugging Face hub. Without it, start from random
    weights."""

    objective: Literal[*OBJECTIVES] = "masked_lm"
    """masked_lm: masked language modelling, with the sentence loss of sentence.objective."""

    accept_changes: list[str] = field(default_factory=list)
    """Resume a run although these differ from how it began: options, or corpus, tokenizer and the like, by the names
    that the refusal gives. Its result is then no longer what either configuration says."""

    output: str = "runs/pretrain"
    """The run's folder: the model in the Hugging Face format, checkpoints, metrics."""
