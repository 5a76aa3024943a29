"""The contract of pretraining objectives: every one of the table keeps it, and it is all that the rest relies on."""

import json
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bert import hub
from bert.attention import BACKENDS
from bert.config import ModelConfig, ModelOptions
from bert.encoder import Encoder
from bert.errors import UserError
from bert.heads import MaskedLMHead
from bert.model import BertModel
from bert.packed import PackedBatch
from bert.tokenizer import TokenizerConfig
from bert.training import loop
from bert.training.config import TrainingConfig
from bert.training.stopping import Stopped
from bert.training.tracking import TrackingConfig
from pretrain import launch
from pretrain.config import AuditConfig, DataConfig, PretrainConfig, SentenceConfig
from pretrain.objectives import OBJECTIVES
from pretrain.objectives.masked_lm import MaskedLM
from pretrain.objectives.objective import PretrainObjective
from pretrain.options import check as faults
from pretrain.options import with_defaults
from pretrain.validation import metric_names
from tests.pretrain.conftest import make_sampler


class Tampered(PretrainObjective):
    """Another kind: it also tells which tokens are none of the text's, has no sentence loss, and answers nothing."""

    goal = "valid/tampered_loss"
    fingerprint = "as it was"

    def __init__(self, config: ModelConfig, tokenizer, sentence_labels: bool, attention: str = "sdpa") -> None:
        super().__init__()
        self.bert = BertModel(config, pooler=False, attention=attention)
        self.masked_lm_head, self.head = MaskedLMHead(config), nn.Linear(config.hidden_size, 2)
        self.tokenizer = tokenizer
        self.weights = {"masked_lm_loss": 1.0, "tampered_loss": 0.5}

    @classmethod
    def check(cls, config):
        return ["objective: tampered has no sentence loss."] * (config.sentence.objective != "none")

    @classmethod
    def facts(cls, config):
        return {"tampered": cls.fingerprint}

    @classmethod
    def scores(cls, config):
        return ["tampered_loss", "tampered_accuracy"]

    def start_from(self, folder: Path) -> str:
        return hub.load_weights(folder, self, ("masked_lm_head.", "head."), beside=("head.",)).in_words()

    def compile_parts(self) -> None:
        self.bert.encoder.compile_layers()

    def counts(self, batch: PackedBatch) -> dict[str, float]:
        masked = dict.fromkeys(("masked_lm_loss", "masked_lm_accuracy"), len(batch.targets["masked_index"]))
        return masked | dict.fromkeys(("tampered_loss", "tampered_accuracy"), batch.num_tokens)

    def forward(self, batch: PackedBatch) -> dict[str, Tensor]:
        hidden, index = self.bert(batch).last_hidden_state, batch.targets["masked_index"]
        table, labels = self.bert.embeddings.token.weight, batch.targets["masked_labels"]
        tampered = torch.zeros(batch.num_tokens, dtype=torch.long)
        tampered[index] = (batch.token_ids[index] != labels).long()
        loss, right = self.masked_lm_head.loss(hidden[index], table, labels)
        logits = self.head(hidden)
        return {
            "masked_lm_loss": loss,
            "masked_lm_accuracy": right,
            "tampered_loss": F.cross_entropy(logits, tampered, reduction="sum"),
            "tampered_accuracy": (logits.detach().argmax(-1) == tampered).sum(),
        }

    def export(self, folder: Path) -> None:
        hub.save_config(folder, self.bert.config, "BertForMaskedLM")
        hub.save_weights(folder, self, beside=("head.",))
        self.tokenizer.save(folder, self.bert.config.max_position_embeddings)

    def restore(self, folder: Path) -> None:
        hub.load_weights(folder, self, beside=("head.",))


NEEDED: dict[str, dict[str, dict[str, object]]] = {}
"""By objective, options without which its `check` refuses a run, such as {"masking": {"strategy": "span"}}."""


@pytest.fixture(autouse=True)
def tampered(monkeypatch) -> None:
    """One line of the table more."""
    monkeypatch.setitem(OBJECTIVES, "tampered", Tampered)


@pytest.fixture
def make_config(text_file, cache, tmp_path):
    """A run of 8 steps on one segment, without a sentence loss, unless another one is asked for."""

    def make(objective: str, name: str = "run", sentence: str = "none", **options) -> PretrainConfig:
        shape = "doc_sentences" if sentence == "none" else "segment_pair"
        settings = {"steps": 8, "batch_size": 16, "save_every": 2, "eval_every": 4, "device": "cpu", "lr": 0.01}
        sizes = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
        if "init" not in options:
            options |= {"tokenizer": TokenizerConfig(vocab_size=300), "model": ModelOptions(**sizes)}
        config = PretrainConfig(
            data=DataConfig(train=str(text_file), cache=str(cache), max_length=32),
            sentence=SentenceConfig(objective=sentence, input=shape),
            audit=AuditConfig(sequences=0),
            training=TrainingConfig(**settings, log_every=1),
            tracking=TrackingConfig(uri="none"),
            objective=objective,
            output=str(tmp_path / name),
            **options,
        )
        needed = {group: replace(getattr(config, group), **given) for group, given in NEEDED.get(objective, {}).items()}
        return replace(config, **needed)

    return make


def built(config: PretrainConfig, tokenizer, seed: int = 0) -> PretrainObjective:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(seed)
    model = ModelConfig(vocab_size=tokenizer.vocab_size, **sizes)
    return OBJECTIVES[config.objective].build(config, model, tokenizer)


def batches_of(store, tokenizer, config: PretrainConfig) -> list[PackedBatch]:
    """One to train on, one to validate with, and one of pairs alone where they are labelled."""
    chosen = {"sentence__objective": config.sentence.objective, "sentence__input": config.sentence.input}
    whole = {"sentence__objective": "none", "sentence__input": "doc_sentences"}
    first, judged = (
        make_sampler(store, tokenizer, **options).block(0, 0).micro_batch(0) for options in (chosen, whole)
    )
    if "sentence_labels" not in first.targets:
        return [first, judged]
    labels = {"sentence_labels": first.targets["sentence_labels"]}
    alone = PackedBatch(first.token_ids, first.segment_ids, first.position_ids, first.cu_seqlens, 32, labels)
    return [first, judged, alone]


NAMES, SENTENCES = (*OBJECTIVES, "tampered"), ("none", "nsp", "sop")


@pytest.mark.parametrize("name", NAMES)
def test_every_objective_is_accepted_with_what_it_needs(name, make_config):
    """Otherwise the next test would pass it by; what a new one needs belongs in NEEDED."""
    assert [] in [faults(make_config(name, sentence=sentence)) for sentence in SENTENCES]


@pytest.mark.parametrize(("name", "sentence"), [(name, sentence) for name in NAMES for sentence in SENTENCES])
def test_an_objective_keeps_the_contract_or_says_why_not(name, sentence, make_config, store, tokenizer, tmp_path):
    import transformers

    config = make_config(name, sentence=sentence)
    if said := OBJECTIVES[name].check(config):
        assert faults(config) == said
        return
    objective, other = built(config, tokenizer), built(config, tokenizer, seed=1)
    first, *judged = batches_of(store, tokenizer, config)
    for batch in (first, *judged):
        sums, counts = objective(batch), objective.counts(batch)
        assert sums.keys() == counts.keys() and all(counts.values())
        assert all(value.shape == () and torch.isfinite(value) for value in sums.values())
    assert objective.weights.keys() & objective.counts(first).keys()
    found = {name for batch in judged for name in objective.counts(batch)}
    known = {*metric_names(config), "sentence_loss", "sentence_accuracy"}
    assert {"masked_lm_loss", "masked_lm_accuracy", *OBJECTIVES[name].scores(config)} <= found <= known
    assert objective.goal.removeprefix("valid/") in metric_names(config)
    sum(objective(first)[n] for n in objective.weights if n in objective.counts(first)).backward()
    assert [n for n, p in objective.named_parameters() if p.grad is None] == []
    assert {objective.depth(n) for n, _ in objective.named_parameters()} <= {0, 1, 2, 3}

    objective.eval().export(tmp_path)
    architecture = json.loads((tmp_path / "config.json").read_text())["architectures"][0]
    _, info = getattr(transformers, architecture).from_pretrained(tmp_path, output_loading_info=True)
    assert not info["unexpected_keys"]
    other.restore(tmp_path)
    for batch in (first, *judged):
        with torch.no_grad():
            assert other.eval()(batch) == objective(batch)


@pytest.mark.parametrize("name", NAMES)
def test_an_objective_takes_up_an_encoder_from_elsewhere(name, make_config, tokenizer, tmp_path):
    config = make_config(name)
    elsewhere, objective = MaskedLM(built(config, tokenizer, 1).bert.config, tokenizer, True), built(config, tokenizer)
    elsewhere.export(tmp_path)
    assert "encoder loaded" in objective.start_from(tmp_path)
    for parameter, theirs in zip(objective.bert.encoder.parameters(), elsewhere.bert.encoder.parameters(), strict=True):
        assert torch.equal(parameter, theirs)


@dataclass(frozen=True)
class TamperedOptions:
    """The options of one objective."""

    share: float = 0.1


@dataclass(frozen=True)
class WithTampered(PretrainConfig):
    """All options, with those of a further objective."""

    tampered: TamperedOptions = TamperedOptions()


@pytest.mark.parametrize("beside", [(), ("head.crf.",), ("head.",)])
def test_a_head_beside_is_new_where_the_folder_has_another_one(beside, make_config, tokenizer, tmp_path):
    objective, other = (built(make_config("tampered"), tokenizer, seed) for seed in (0, 1))
    hub.save_config(tmp_path, other.bert.config, "BertForSequenceClassification")
    other.head = nn.ModuleDict({"classifier": nn.Linear(16, 3), "crf": nn.Linear(3, 3)})
    hub.save_weights(tmp_path, other, beside=beside)
    said = objective.start_from(tmp_path)
    assert said == "encoder loaded; new: head; not used: head"


def test_options_of_another_objective_are_refused_by_name(monkeypatch):
    monkeypatch.setattr(Tampered, "options", "tampered")
    given = WithTampered(tampered=TamperedOptions(0.3), sentence=SentenceConfig("none", "doc_sentences"))
    assert faults(with_defaults(given)) == [
        "tampered.share: 0.3 was given, but it belongs to objective=tampered.",
    ]
    assert faults(with_defaults(replace(given, objective="tampered"))) == []


def test_a_run_of_another_kind_needs_the_contract_alone(make_config, monkeypatch, capsys):
    config, stopped = make_config("tampered"), make_config("tampered", "stopped")
    result = launch.pretrain(config)
    said = capsys.readouterr().out
    assert {name for name in result if name.startswith("valid/")} == {f"valid/{name}" for name in metric_names(config)}
    assert not (Path(config.output) / "served.json").exists() and "try it" not in said

    class Stopping(launch.Stream):
        def __call__(self, position):
            for number, item in enumerate(super().__call__(position), 1):
                if number == 5:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield item

    with monkeypatch.context() as patch:
        patch.setattr(launch, "Stream", Stopping)
        with pytest.raises(Stopped):
            launch.pretrain(stopped)
    with monkeypatch.context() as patch:
        patch.setattr(Tampered, "fingerprint", "another")
        with pytest.raises(UserError, match=r"was started with tampered=as it was, and is now asked for with another"):
            launch.pretrain(stopped)
    assert launch.pretrain(stopped) == result


def test_training_options_reach_every_encoder_of_an_objective(make_config, monkeypatch):
    class Two(Tampered):
        def __init__(self, config: ModelConfig, tokenizer, sentence_labels: bool, attention: str = "sdpa") -> None:
            super().__init__(config, tokenizer, sentence_labels, attention)
            self.generator = nn.ModuleDict({"encoder": Encoder(config, attention)})

    monkeypatch.setitem(OBJECTIVES, "tampered", Two)
    ran = []

    def fit(objective, *rest):
        of_both = [objective.bert.encoder, objective.generator["encoder"]]
        ran.append((of_both, [(encoder.gradient_checkpointing, encoder.backend) for encoder in of_both]))
        return loop.fit(objective, *rest)

    monkeypatch.setattr(launch, "fit", fit)
    config = make_config("tampered")
    launch.pretrain(
        replace(config, training=replace(config.training, steps=1, attention="eager", gradient_checkpointing=True))
    )
    ((of_both, in_training),) = ran
    assert in_training == [(True, BACKENDS["eager"])] * 2
    assert [encoder.backend for encoder in of_both] == [BACKENDS["sdpa"]] * 2


def test_a_run_of_another_kind_may_get_further_words(make_config, tmp_path):
    first, words = make_config("tampered"), tmp_path / "words.txt"
    launch.pretrain(first)
    words.write_text("transformers\n")
    grown = make_config("tampered", "grown", init=first.output, tokenizer=TokenizerConfig(add=str(words)))
    launch.pretrain(grown)
    weights = hub.open_folder(grown.output, "init")
    assert weights.config.vocab_size == hub.open_folder(first.output, "init").config.vocab_size + 1
