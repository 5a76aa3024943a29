"""The options of fine-tuning, and of the verbs evaluate and predict. A task says which of TaskConfig's are its own."""

from dataclasses import dataclass, field
from typing import Literal

from bert.training.config import TrainingConfig
from bert.training.tracking import TrackingConfig
from finetune.formats import FORMATS
from finetune.heads import HEADS
from finetune.schemes import SCHEMES, TAGGINGS
from finetune.tasks import TASKS
from finetune.units import UNITS

COMBINE = ("concat", "weighted_sum")


@dataclass(frozen=True)
class TaskConfig:
    """What is learned."""

    name: Literal[*TASKS] = "classification"
    """classification: one label for a text or a pair of texts. regression: a number for it. ner: entities in a text.
    question_answering: where in a text the answer is, or that there is none."""

    class_weights: Literal["equal", "balanced"] = "equal"
    """classification: balanced weighs each class's mistakes by how rare it is (rows / classes / rows of the class)."""

    label_smoothing: float = 0.0
    """classification, ner without a CRF: this share of each label's probability is spread evenly over all classes
    (Szegedy et al. 2016, section 7)."""

    head: Literal[*HEADS] = "linear"
    """ner: linear tags each unit on its own, crf the whole sequence; lstm and lstm_crf put a bidirectional LSTM before
    them."""

    layers: list[int] = field(default_factory=lambda: [-1])
    """ner: which hidden states the head reads: 0 the embeddings, 1 the first layer's, -1 the last layer's. With
    training.freeze=encoder they are features, as in the paper's table 7: [-4,-3,-2,-1]."""

    combine: Literal[*COMBINE] = "concat"
    """ner: how several layers become one vector; the weights of the sum are learned."""

    unit: Literal[*UNITS] = "wordpiece"
    """ner: what carries a tag. wordpiece: each of the tokenizer's pieces; a word's later ones continue with I-.
    character: single characters, each a token of its own. word: what is between spaces, tagged at its first piece; the
    later ones carry none (Devlin et al. 2019, section 5.3). Where entities end inside words, as in Korean, pieces and
    words straddle the boundary; the run prints the score of tagging each of them correctly."""

    scheme: Literal[*SCHEMES] = "iob2"
    """ner: the file's tagging scheme. iob2_repaired: iob2 in which an I- that continues nothing is taken for a B-, and
    counted."""

    tagging: Literal[*TAGGINGS] = "iob2"
    """ner: the tagging scheme that the model learns, whatever the file's: iobes also marks an entity's last unit, and
    single-unit entities."""

    constrained: bool = False
    """ner: never predict a tag that cannot follow the one before it (I-LC after O). Otherwise such a tag begins an
    entity."""

    original_compat: bool = False
    """ner: add original_micro_f1 and original_macro_f1, the formula of the Korean BERT this grew from: over all tags, O
    too, of each evaluation batch, then averaged over the batches. For comparison with its figures, not to be relied
    on."""

    no_answer_threshold: float = 0.0
    """question_answering: predict no answer where that scores higher than the best answer by more than this. Refused
    where every question of data.train has an answer: the model then always gives one."""

    max_answer_length: int = 30
    """question_answering: maximum tokens in an answer."""


@dataclass(frozen=True)
class DataConfig:
    """Labelled files."""

    train: str = "builtin"
    """The training data. `builtin` is a demonstration made from the documentation inside the Python interpreter."""

    eval: str | None = None
    """What the model is evaluated on after each epoch. Not needed with builtin."""

    test: dict[str, str] = field(default_factory=dict)
    """More files to score the best epoch on, once, at the end: {hard: hard.tsv} gives test/hard/accuracy and so on."""

    format: Literal["auto", *FORMATS] = "auto"
    """What the files hold. auto: by the file's extension; for ner, nemo where the name begins with `text` and a file
    with `labels` instead lies beside it, klue where lines begin with ##, else conll. JSON lines with lists of words or
    characters, and of their tags, are word_lists or character_lists. For question_answering, squad_rows where a JSON
    file is an array, or JSON lines with answers."""

    text: str | None = None
    """Tables: the column with the text, by name; by number from 1 where the file has no header line. By default `text`.
    conll: the word's column, by number; by default the first. Lists: their field, by default `tokens`."""

    text_pair: str | None = None
    """Tables: the column with the second text, for pairs."""

    label: str | None = None
    """Tables: the column with the label, by default `label`. conll: the tag's, by number; by default the last. Lists:
    the field of the tags, by default `ner_tags`."""

    quoting: Literal["auto", "on", "off"] = "auto"
    """tsv and csv: whether quotation marks enclose fields (on), or are text like any other (off). auto: on for csv, off
    for tsv."""

    max_length: int = 128
    """Maximum tokens in a sequence, special ones included. A longer text is truncated (classification, regression) or
    read in windows (ner, question_answering)."""

    overlap: int | None = None
    """Tokens that two windows of a long text share: at most half of the room in a window, which is the default. In ner
    a unit is tagged in the window where it is most central, so that it sees its context."""

    on_bad_row: Literal["error", "skip"] = "error"
    """error: a malformed row stops the run, before training. skip: it is left out and counted."""


def _training() -> TrainingConfig:
    return TrainingConfig(lr=None, save_every=1000)


@dataclass(frozen=True)
class FinetuneConfig:
    """Fine-tune a pretrained BERT."""

    task: TaskConfig = field(default_factory=TaskConfig)
    data: DataConfig = field(default_factory=DataConfig)

    init: str = "runs/pretrain"
    """What to start from: a run's output or, while it is still going, its best/ or one of its checkpoints/; a folder of
    transformers, or an id on the Hugging Face hub. From a model fine-tuned for the same task, head and labels, the head
    is taken too. none starts from random weights, for comparison, with the tokenizer and sizes of `like`."""

    like: str | None = None
    """With init=none: the folder whose tokenizer and model sizes are used."""

    reinit_layers: int = 0
    """This many of the top layers, the pooler and the head start at random instead (Zhang et al. 2021, section 4)."""

    best: str | None = None
    """The metric that decides which epoch's weights are kept as the result; by default macro_f1 (classification),
    spearman (regression), entity_macro_f1 (ner), f1 (question_answering). The lowest loss or mse, the highest of any
    other."""

    seeds: list[int] = field(default_factory=list)
    """Run once with each of these as training.seed, in folders seed-0, seed-1, ... of the output, and give mean and
    standard deviation."""

    training: TrainingConfig = field(default_factory=_training)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    accept_changes: list[str] = field(default_factory=list)
    """Resume a run although these differ from how it began: options, or corpus, tokenizer and the like, by the names
    that the refusal gives. Its result is then no longer what either configuration says."""

    output: str = "runs/finetune"
    """The run's folder: the best model in the Hugging Face format, checkpoints, metrics."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Judge a fine-tuned model on a labelled file."""

    data: DataConfig
    """data.eval is the file. By default it is read as in training."""

    checkpoint: str = "runs/finetune"
    """A folder that fine-tuning left."""

    scheme: Literal[*SCHEMES] | None = None
    """ner: the file's tagging scheme. By default as in training."""

    output: str | None = None
    """A folder for metrics.json, classes.json, worst_errors.json and a picture; by default scores are only printed."""

    no_answer_threshold: float | None = None
    """question_answering: predict no answer where that scores higher than the best answer by more than this, such as
    the best_f1_threshold that evaluate gave on other data. By default as in training."""

    batch_size: int = 64
    """Sequences at once."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes the GPU where there is one."""

    precision: Literal["auto", "fp32", "bf16"] | None = None
    """For products and hidden states. By default what training was told; auto: bf16 on a GPU, fp32 on a CPU."""


@dataclass(frozen=True)
class PredictConfig:
    """Write what a fine-tuned model says of each text."""

    input: str
    """Texts: one per line in a .txt file; else a table or tagged file like those of training (labels are not read).
    `-` is standard input: a text per line or, with format=jsonl, a JSON object; each is answered as it comes."""

    output: str | None = None
    """A JSONL file, a line for each text, in order: labels with probabilities, numbers, entities as ranges of
    characters, or answers. `-` is standard output, and the default where the input is standard input."""

    checkpoint: str = "runs/finetune"
    """A folder that fine-tuning left."""

    format: Literal["auto", "txt", *FORMATS] = "auto"
    """What the input holds; auto goes by its ending."""

    text: str | None = None
    """Tables: the column with the text. conll: the word's, by number. Lists: the field of the units. By default as in
    training. question_answering: the question's column, by default question."""

    text_pair: str | None = None
    """Tables: the column with the second text. By default as in training. question_answering: the column with the text
    that may hold the answer, by default context."""

    quoting: Literal["auto", "on", "off"] = "auto"
    """tsv and csv: whether quotation marks enclose fields. auto: as in training, or on for csv and off for tsv."""

    on_bad_row: Literal["error", "skip"] = "error"
    """error: an empty line or a malformed row ends it. skip: it is left out and counted. What is not UTF-8 is an error
    in any case."""

    no_answer_threshold: float | None = None
    """question_answering: predict no answer where that scores higher than the best answer by more than this, such as
    the best_f1_threshold that evaluate gave on other data. By default as in training."""

    batch_size: int = 64
    """Sequences at once."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes the GPU where there is one."""

    precision: Literal["auto", "fp32", "bf16"] | None = None
    """For products and hidden states. By default what training was told; auto: bf16 on a GPU, fp32 on a CPU."""
