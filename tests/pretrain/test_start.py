"""Going on from a model: its tokenizer, its sizes, its weights, and a run that is stopped on the way."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bert import Bert
from bert.config import ModelConfig, ModelOptions
from bert.errors import UserError
from bert.tokenizer import TokenizerConfig
from bert.training.config import TrainingConfig
from bert.training.tracking import TrackingConfig
from pretrain import launch
from pretrain.config import AuditConfig, DataConfig, PretrainConfig, SentenceConfig
from pretrain.launch import pretrain
from pretrain.options import DEFAULT_LR_OF_INIT, check, with_defaults

WORDS = "word_embeddings.weight"


@pytest.fixture(scope="module")
def given(tokenizer, tmp_path_factory) -> Path:
    """A folder saved by transformers, with the corpus's vocabulary and two rows to spare."""
    from transformers import BertConfig, BertForPreTraining

    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("given")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=tokenizer.vocab_size + 2, max_position_embeddings=48, **sizes)
    BertForPreTraining(config).save_pretrained(folder)
    tokenizer.save(folder, 48)
    return folder


@pytest.fixture
def config(given, text_file, cache, tmp_path) -> PretrainConfig:
    return PretrainConfig(
        init=str(given),
        data=DataConfig(train=str(text_file), cache=str(cache), max_length=32),
        audit=AuditConfig(sequences=500),
        training=TrainingConfig(steps=6, batch_size=16, save_every=2, eval_every=6, log_every=1, device="cpu", lr=1e-9),
        tracking=TrackingConfig(uri="none"),
        output=str(tmp_path / "run"),
    )


def weights(folder: str | Path) -> dict[str, torch.Tensor]:
    return load_file(Path(folder) / "model.safetensors")


@pytest.mark.parametrize("objective", ["nsp", "none"])
def test_a_run_begins_with_the_weights_it_is_given_and_opens_in_transformers(objective, config, given, capfd):
    from transformers import AutoModelForPreTraining

    sentence = SentenceConfig(objective, "segment_pair" if objective == "nsp" else "doc_sentences")
    pretrain(replace(config, sentence=sentence))
    before, after = weights(given), weights(config.output)
    for name, tensor in after.items():  # the rate is next to nothing: only what is new could differ
        torch.testing.assert_close(tensor, before[name], atol=1e-6, rtol=1e-5)
    if objective == "nsp":
        _, info = AutoModelForPreTraining.from_pretrained(config.output, output_loading_info=True)
        assert not any(info.values())


def test_the_model_of_init_is_evaluated_before_the_first_step_and_once(config, capsys):
    config = replace(config, training=replace(config.training, lr=10.0, warmup=0.0, eval_every=2))
    still = replace(config, training=replace(config.training, steps=1, lr=1e-12), output=f"{config.output}-0")
    reached = pretrain(still)["valid/masked_lm_loss"]
    result, said = pretrain(config), capsys.readouterr().out
    first = json.loads((Path(config.output) / "metrics.jsonl").read_text().splitlines()[0])
    loss = first["metrics"]["valid/masked_lm_loss"]
    assert first["step"] == 0
    assert loss == pytest.approx(reached, rel=1e-5)
    assert result["start_valid/masked_lm_loss"] == loss < result["valid/masked_lm_loss"]
    assert "step 0, the model of init: masked_lm_loss " in said
    assert "WARNING: worse than the model it started from" in said
    (Path(config.output) / "metrics.json").unlink()
    assert pretrain(config) == result
    assert "step 0" not in capsys.readouterr().out


def test_what_is_taken_and_what_is_new_is_said(config, given, capsys):
    bare = Path(config.output).parent / "bare"
    bert = Bert.from_pretrained(given)
    bert.masked_lm_head = bert.sentence_head = None
    bert.save_pretrained(bare)
    pretrain(replace(config, init=str(bare)))
    said = capsys.readouterr().out
    assert f"init: {bare}: encoder loaded; new: masked_lm_head, sentence_head; not used: nothing\nWARNING: that" in said


def test_a_stopped_run_goes_on_from_its_own_checkpoint_when_the_model_is_gone(config, given, monkeypatch, tmp_path):
    config = replace(config, training=replace(config.training, lr=0.01))
    whole = replace(config, output=str(tmp_path / "whole"), init=str(tmp_path / "moved"))
    shutil.copytree(given, whole.init)
    pretrain(whole)
    before = weights(whole.output)

    class Stop(Exception):
        pass

    class Disturbed(launch.Stream):
        def __call__(self, position):
            for number, item in enumerate(super().__call__(position)):
                if number == 3:
                    raise Stop
                yield item

    with monkeypatch.context() as patched:
        patched.setattr(launch, "Stream", Disturbed)
        with pytest.raises(Stop):
            pretrain(replace(whole, output=config.output))
    shutil.rmtree(whole.init)
    pretrain(replace(whole, output=config.output))
    after = weights(config.output)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_a_finished_run_is_not_taken_for_one_of_other_weights(config, given, tmp_path):
    start = tmp_path / "start"
    shutil.copytree(given, start)
    config = replace(config, init=str(start))
    pretrain(config)
    pretrain(config)  # says that it is finished
    changed = {name: 2 * tensor for name, tensor in weights(start).items()}
    save_file(changed, start / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"was started with init_weights=.*\(by its content\).* cannot be changed"):
        pretrain(config)
    (Path(config.output) / "metrics.json").unlink()
    pretrain(config)  # it goes on from its own checkpoint
    shutil.rmtree(start)
    pretrain(config)


def test_a_start_that_is_replaced_while_the_text_is_prepared_is_refused(config, given, tmp_path, monkeypatch):
    start, build = tmp_path / "start", launch.build_validation
    shutil.copytree(given, start)
    changed = {name: 2 * tensor for name, tensor in weights(start).items()}

    def build_slowly(*arguments):
        save_file(changed, start / "model.safetensors", {"format": "pt"})
        return build(*arguments)

    monkeypatch.setattr(launch, "build_validation", build_slowly)
    with pytest.raises(UserError, match=r"^init: the weights of '.*start' were replaced since this run was started"):
        pretrain(replace(config, init=str(start)))


def test_a_run_whose_checkpoints_are_gone_begins_with_the_model_again_and_not_with_random_weights(config, given, capfd):
    pretrain(config)
    shutil.rmtree(Path(config.output) / "checkpoints")
    (Path(config.output) / "metrics.json").unlink()
    capfd.readouterr()
    pretrain(config)
    assert f"init: {given}: encoder loaded" in capfd.readouterr().out
    for name, tensor in weights(config.output).items():
        torch.testing.assert_close(tensor, weights(given)[name], atol=1e-6, rtol=1e-5)


def test_added_words_get_rows_that_are_the_means_of_their_pieces_and_outlive_a_stop(config, given, tokenizer, tmp_path):
    (tmp_path / "words.txt").write_text("gobbledegook\nzzzzzz\nqqqqqq\n")
    config = replace(config, tokenizer=TokenizerConfig(add=str(tmp_path / "words.txt")))
    pretrain(config)
    bert, size = Bert.from_pretrained(config.output), tokenizer.vocab_size
    assert bert.tokenizer.vocab_size == size + 3 == bert.bert.config.vocab_size
    (one,) = bert.encode("gobbledegook")
    assert one.ids[1:-1] == [size]
    table = weights(given)[f"bert.embeddings.{WORDS}"]
    expected = table[tokenizer.encode_text("gobbledegook").ids].mean(0)
    torch.testing.assert_close(bert.bert.embeddings.token.weight[size], expected, atol=1e-6, rtol=1e-5)
    shutil.rmtree(Path(config.output) / "checkpoints" / "step-00000006")
    (Path(config.output) / "metrics.json").unlink()
    last = weights(config.output)
    pretrain(config)
    assert all(torch.equal(tensor, last[name]) for name, tensor in weights(config.output).items())


def test_dropout_is_the_model_s_unless_asked_for(config, monkeypatch):
    seen = []
    build = launch.build_objective
    monkeypatch.setattr(launch, "build_objective", lambda *all: seen.append(build(*all)) or seen[-1])
    pretrain(config)
    pretrain(replace(config, model=ModelOptions(attention_probs_dropout_prob=0.0), output=config.output + "2"))
    dropouts = [(o.bert.config.hidden_dropout_prob, o.bert.config.attention_probs_dropout_prob) for o in seen]
    assert dropouts == [(0.1, 0.1), (0.1, 0.0)]


def test_the_learning_rate_is_a_trained_model_s():
    assert with_defaults(PretrainConfig(init="x")).training.lr == DEFAULT_LR_OF_INIT == 5e-5
    assert with_defaults(PretrainConfig()).training.lr == 1e-3
    assert with_defaults(PretrainConfig(init="x", training=TrainingConfig(lr=2e-4))).training.lr == 2e-4


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"tokenizer": TokenizerConfig(vocab_size=500)}, "tokenizer.vocab_size: 500 was given, but it belongs to"),
        ({"tokenizer": TokenizerConfig(path="t.json")}, "tokenizer.path: 't.json' was given, but it belongs to random"),
        ({"model": ModelOptions(preset="base")}, "model.preset: 'base' was given, but it belongs to random weights"),
        ({"model": ModelOptions(num_hidden_layers=3)}, "model.num_hidden_layers: 3 was given"),
        ({"init": None, "tokenizer": TokenizerConfig(add="w.txt")}, "tokenizer.add: 'w.txt' was given, but it belongs"),
    ],
)
def test_what_belongs_to_random_weights_is_refused(parts, said, config):
    (fault,) = check(replace(config, **parts))
    assert fault.startswith(said)


def test_a_text_longer_than_the_model_reads_and_a_segment_too_many_are_refused(config, tokenizer, tmp_path):
    single = ModelConfig(tokenizer.vocab_size, 16, 1, 2, 32, 24, type_vocab_size=1)
    Bert(single, tokenizer).save_pretrained(tmp_path / "single")
    with pytest.raises(UserError) as raised:
        pretrain(replace(config, init=str(tmp_path / "single")))
    assert raised.value.messages == (
        f"data.max_length: 32, but the model of '{tmp_path}/single' reads 24 tokens at most.",
        f"sentence.input: 'segment_pair' has 2 segments, but the model of '{tmp_path}/single' knows 1 segment.",
    )


def test_a_model_that_is_not_there_is_refused(config):
    with pytest.raises(UserError, match=r"^init: no such folder: '\./nowhere'\.$"):
        pretrain(replace(config, init="./nowhere"))


def test_an_output_of_another_run_is_refused_and_its_checkpoint_not_taken(config, given, capsys):
    pretrain(replace(config, init=None, model=ModelOptions(max_position_embeddings=32)))
    capsys.readouterr()
    with pytest.raises(UserError, match=f"was started with init=None, and is now asked for with {given}"):
        pretrain(config)
    assert "0.00% of them [UNK]" in capsys.readouterr().out


def test_other_words_under_a_run_are_refused_and_a_finished_run_needs_none(config, tmp_path, capsys):
    words = tmp_path / "words.txt"
    words.write_text("gobbledegook\n")
    config = replace(config, tokenizer=TokenizerConfig(add=str(words)))
    pretrain(config)
    words.write_text("zzzzzz\n")
    with pytest.raises(UserError, match=r"was started with added_words=.*, and is now asked for with"):
        pretrain(config)
    words.unlink()
    shutil.rmtree(Path(config.output) / "checkpoints")
    assert pretrain(config) is None
    assert "is finished: nothing to do" in capsys.readouterr().out


def test_special_tokens_of_its_own_are_kept_through_the_token_store(config, given, tokenizer, tmp_path):
    folder = tmp_path / "own"
    shutil.copytree(given, folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        text = (folder / file).read_text()
        (folder / file).write_text(text.replace("[CLS]", "[BOS]").replace("[SEP]", "[EOS]"))
    pretrain(replace(config, init=str(folder), data=replace(config.data, cache=str(tmp_path / "cache"))))
    assert Bert.from_pretrained(config.output).tokenizer.special_tokens[2:4] == ("[BOS]", "[EOS]")
