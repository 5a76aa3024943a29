import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from functools import partialmethod
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import run
from bert import Bert
from bert.config import ModelOptions
from bert.errors import UserError
from bert.pretrained import filled
from bert.serving.served import Served
from bert.tokenizer import TokenizerConfig
from bert.training import config as training_config
from bert.training.config import TrainingConfig
from bert.training.identity import flatten
from bert.training.position import Position
from bert.training.stopping import Stopped
from bert.training.tracking import TrackingConfig
from pretrain import data, launch, options, packing, validation
from pretrain.config import AuditConfig, DataConfig, MaskingConfig, PretrainConfig, SentenceConfig
from pretrain.launch import _first_block, pretrain
from pretrain.masking import MASKING
from pretrain.negatives import NEGATIVES
from pretrain.options import with_defaults
from pretrain.text import datasets_of, open_text
from pretrain.validation import metric_names
from tests.pretrain.conftest import ListSource, made_up_text, make_sampler, numbered, random_lengths, write_text

LETTERS = "abcdefghijklmnop"
NO_SENTENCES = SentenceConfig(objective="none", input="doc_sentences")


class Killed(Exception):
    """Stands for a crash."""


def small_model(width: int = 16, positions: int = 48) -> ModelOptions:
    """One layer, with dropout."""
    sizes = {"num_hidden_layers": 1, "hidden_size": width, "num_attention_heads": 2, "intermediate_size": 2 * width}
    dropout = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    return ModelOptions(max_position_embeddings=positions, **sizes, **dropout)


@pytest.fixture(scope="module")
def make_config(text_file, cache):
    """A run of 12 steps of a small model with dropout; options of training, and whole parts, may be changed."""

    def make(output: Path, parts: dict | None = None, **training) -> PretrainConfig:
        every = {"save_every": 4, "eval_every": 6, "log_every": 1}
        settings = {"steps": 12, "batch_size": 16, "micro_batch_size": 8, "device": "cpu", "lr": 0.01} | every
        config = PretrainConfig(
            data=DataConfig(train=str(text_file), cache=str(cache), max_length=32),
            tokenizer=TokenizerConfig(vocab_size=300),
            model=small_model(),
            audit=AuditConfig(sequences=500),
            training=TrainingConfig(**settings | training),
            tracking=TrackingConfig(uri="none"),
            output=str(output),
        )
        return replace(config, **parts or {})

    return make


@pytest.fixture
def disturb(monkeypatch):
    """Lets something happen before the stream gives the micro-batch of that number, once."""

    def install(micro_batch: int, happen) -> None:
        class Disturbed(launch.Stream):
            def __call__(self, position):
                for number, item in enumerate(super().__call__(position), 1):
                    if number == micro_batch:
                        monkeypatch.undo()
                        happen()
                    yield item

        monkeypatch.setattr(launch, "Stream", Disturbed)

    return install


def crash() -> None:
    raise Killed


def ask_to_stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def last_checkpoint(output: Path) -> Path:
    return sorted((output / "checkpoints").iterdir())[-1]


def files(output: Path) -> dict[str, bytes]:
    """What a run is about: its models, its last checkpoint whole, its figures."""
    kept = [output / "model.safetensors", output / "metrics.json", *(output / "best").iterdir()]
    kept += last_checkpoint(output).iterdir()
    return {str(file.relative_to(output)): file.read_bytes() for file in kept}


def metrics(output: Path) -> list[tuple[int, dict[str, float]]]:
    """The lines of metrics.jsonl, without their times and speeds."""
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    kept = [{name: v for name, v in line["metrics"].items() if not name.startswith("speed/")} for line in lines]
    return [(line["step"], values) for line, values in zip(lines, kept, strict=True)]


@pytest.fixture(scope="module")
def whole(make_config, tmp_path_factory) -> Path:
    """An undisturbed run with a sentence objective."""
    output = tmp_path_factory.mktemp("whole") / "run"
    pretrain(make_config(output))
    return output


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    """A finished run of one's own."""
    for file in (file for file in whole.rglob("*") if file.is_file()):
        target = tmp_path / "run" / file.relative_to(whole)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    return tmp_path / "run"


def test_a_finished_run_says_what_it_answers(whole):
    served, bert = Served.read(whole), Bert.from_pretrained(whole)
    assert served.answer == filled(bert, served.example["text"], served.params["top"])


def test_a_corpus_in_several_files_trains_like_one_file(whole, make_config, text_file, tmp_path, capsys):
    documents = text_file.read_text(encoding="utf-8").split("\n\n")
    for number, (first, last) in enumerate([(0, 7), (7, 8), (8, None)]):
        (tmp_path / f"part-{number}.txt").write_text("\n\n".join(documents[first:last]), encoding="utf-8")
    config = make_config(tmp_path / "run")
    config = replace(config, data=replace(config.data, train=str(tmp_path / "part-*.txt")))
    pretrain(config)
    assert f"data.train: 3 files ({tmp_path / 'part-0.txt'}, " in capsys.readouterr().out
    file = "model.safetensors"
    assert (tmp_path / "run" / file).read_bytes() == (whole / file).read_bytes()
    parts = [str(tmp_path / f"part-{number}.txt") for number in range(3)]
    assert json.loads((tmp_path / "run" / "read_from.json").read_text()) == {"data.train": parts, "data.valid": []}
    train, held_out = datasets_of(open_text(config))
    assert (train.name, train.source) == ("part-0.txt and 2 more", str(tmp_path))
    assert held_out.name == "part-0.txt and 2 more (held out)"
    both = replace(config, data=replace(config.data, train=parts, valid=parts[2]), output=str(tmp_path / "both"))
    with pytest.raises(UserError, match=r"[0-9] validation documents are in the training text"):
        pretrain(both)


def test_small_files_are_read_more_often_and_the_run_goes_on_with_the_same(make_config, disturb, tmp_path, capsys):
    for name, size in (("large", 60), ("small", 15)):
        write_text(tmp_path / f"{name}.txt", made_up_text(size, seed=len(name)))
    config = make_config(tmp_path / "run")
    mixed = replace(config.data, train=str(tmp_path / "*.txt"), exponent=0.5)
    whole = replace(config, data=mixed, output=str(tmp_path / "whole"))
    pretrain(whole)
    assert "data.exponent=0.5: an epoch reads large.txt 1.00 times (" in capsys.readouterr().out
    text = open_text(whole)
    assert len(text.drawn_documents) > len(text.train_documents)
    disturb(7, ask_to_stop)
    with pytest.raises(Stopped):
        pretrain(replace(config, data=mixed))
    pretrain(replace(config, data=mixed))
    mine, other = (tmp_path / name / "model.safetensors" for name in ("run", "whole"))
    assert mine.read_bytes() == other.read_bytes()
    (tmp_path / "run" / "metrics.json").unlink()
    cut = (tmp_path / "small.txt").read_text().split("\n\n", 1)
    (tmp_path / "small.txt").write_text(f"{cut[0]}\n")
    (tmp_path / "smallest.txt").write_text(cut[1])
    with pytest.raises(UserError, match=r"was started with mixture="):
        pretrain(replace(config, data=mixed))


@pytest.mark.parametrize("exponent, said", [(1.5, "at most 1"), (-0.1, "at least 0"), (0.5, "is one file")])
def test_an_exponent_needs_several_files(make_config, tmp_path, exponent, said):
    config = make_config(tmp_path / "run")
    with pytest.raises(UserError, match=rf"^data\.exponent: .*{said}"):
        pretrain(replace(config, data=replace(config.data, exponent=exponent)))


def test_only_where_no_file_has_another_document_is_the_same_file_refused():
    documents = numbered(random_lengths(40, seed=1)).documents
    of_a_few, of_none = (
        make_sampler(ListSource(documents, files), block_documents=5, sentence__negatives="same_file")
        for files in ([*[1] * 36, 4], [1] * 40)
    )
    assert len(of_a_few.block(0, 0)) == 0 < len(_first_block(of_a_few))
    with pytest.raises(UserError, match=r"^sentence\.negatives: same_file finds no random B for any pair"):
        _first_block(of_none)


@pytest.mark.parametrize("tokenize", ["store", "on_the_fly"])
def test_a_random_b_of_the_same_file_needs_the_same_files_again(make_config, disturb, tmp_path, tokenize):
    parts = [tmp_path / name for name in ("a.txt", "b.txt", "c.txt")]
    for seed, part in enumerate(parts):
        write_text(part, made_up_text(60, seed=seed))
    joined = tmp_path / "joined.txt"
    joined.write_text("\n".join(part.read_text() for part in parts[:2]))
    config = make_config(tmp_path / "run")
    sentence = replace(config.sentence, negatives="same_file")
    given = replace(config.data, train=[str(part) for part in parts], tokenize=tokenize)
    config = replace(config, data=given, sentence=sentence)
    disturb(7, ask_to_stop)
    with pytest.raises(Stopped):
        pretrain(config)
    pretrain(config)
    again = replace(config, output=str(tmp_path / "again"))
    pretrain(again)
    mine, other = (tmp_path / name / "model.safetensors" for name in ("run", "again"))
    assert mine.read_bytes() == other.read_bytes()
    fewer = replace(again, data=replace(given, train=[str(joined), str(parts[2])]))
    (tmp_path / "again" / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"was started with documents_of_files="):
        pretrain(fewer)
    with pytest.raises(UserError, match=r"^sentence\.negatives: same_file was given, but data\.train is one file"):
        pretrain(replace(config, data=replace(given, train=str(joined))))
    with pytest.raises(UserError, match=r"^sentence\.negatives: same_file was given, but data\.train is one file"):
        pretrain(replace(config, data=replace(given, train=[str(joined)])))


@pytest.mark.parametrize("tokenize", ["store", "on_the_fly"])
@pytest.mark.parametrize("apart", [False, True])
def test_what_is_trained_on_and_validated_on_are_datasets_with_true_sizes(make_config, tmp_path, tokenize, apart):
    config = make_config(tmp_path / "run")
    valid = str(write_text(tmp_path / "valid.txt", made_up_text(9, seed=1))) if apart else None
    config = replace(config, data=replace(config.data, tokenize=tokenize, valid=valid))
    text = open_text(config)
    train, held_out = datasets_of(text)
    assert (train.name, train.context, held_out.context) == ("corpus.txt", "training", "validation")
    assert held_out.name == ("valid.txt" if apart else "corpus.txt (held out)")
    assert len({train.digest, held_out.digest}) == 2 and train == datasets_of(text)[0]
    for dataset, source, documents in (
        (train, text.source, np.asarray(text.train_documents)),
        (held_out, text.valid_source, text.valid_documents),
    ):
        first, last = source.sentence_offsets[documents], source.sentence_offsets[documents + 1]
        sizes = {"documents": len(documents), "sentences": sum(last - first)}
        sizes |= {"tokens": sum(source.counts(first, last))} if tokenize == "store" else {}
        assert dataset.profile == sizes


# The same run twice


@pytest.mark.parametrize("step", [1, 4, 7, 11])
def test_a_run_that_is_stopped_goes_on_to_the_same_last_bit(step, whole, make_config, disturb, tmp_path, capsys):
    config = make_config(tmp_path / "run")
    disturb(2 * step, ask_to_stop)
    with pytest.raises(Stopped, match=f"stopped at step {step}; the same command continues from there"):
        pretrain(config)
    assert last_checkpoint(tmp_path / "run").name == f"step-{step:08d}"
    assert json.loads((tmp_path / "run" / "tracking.json").read_text())["status"] == "KILLED"
    pretrain(config)
    assert "resuming from" in capsys.readouterr().out
    assert files(tmp_path / "run") == files(whole)
    assert metrics(tmp_path / "run") == metrics(whole)


@pytest.mark.parametrize("step", [3, 6, 10])
def test_a_run_that_crashes_goes_on_to_the_same_last_bit(step, whole, make_config, disturb, tmp_path):
    config = make_config(tmp_path / "run")
    disturb(2 * step, crash)
    with pytest.raises(Killed):
        pretrain(config)
    assert json.loads((tmp_path / "run" / "tracking.json").read_text())["status"] == "FAILED"
    pretrain(config)
    assert files(tmp_path / "run") == files(whole)
    assert metrics(tmp_path / "run") == metrics(whole)


def test_without_sentences_too(make_config, disturb, tmp_path):
    first, second = (make_config(tmp_path / name, {"sentence": NO_SENTENCES}, epochs=1.0, steps=None) for name in "ab")
    pretrain(first)
    disturb(9, ask_to_stop)
    with pytest.raises(Stopped):
        pretrain(second)
    pretrain(second)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")


IN_TOKENS = {"batch_size": None, "micro_batch_size": None, "batch_tokens": 512, "micro_batch_tokens": 256}


def test_with_fixed_shapes_too(make_config, disturb, tmp_path):
    first, second = (make_config(tmp_path / name, **IN_TOKENS) for name in "ab")
    pretrain(first)
    disturb(9, ask_to_stop)
    with pytest.raises(Stopped):
        pretrain(second)
    pretrain(second)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")


def test_the_shape_is_estimated_on_a_block_of_the_usual_size(make_config, tmp_path):
    config = with_defaults(make_config(tmp_path / "run", **IN_TOKENS | {"batch_tokens": 1 << 20}))
    text, made = open_text(config), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "_block_bytes", lambda recipe: made.append(recipe) or data.BLOCK_BYTES)
        launch.training_sampler(config, text)
    first, last = made
    assert first.shape is None and first.batch_size <= 64 and last.shape is not None


def refused_by_another_rule(config: PretrainConfig, disturb, fact: str, change: tuple) -> None:
    """Stop a run, ask for it with rule 3 of a fact, which is refused, and have it go on as it was."""
    disturb(9, ask_to_stop)
    with pytest.raises(Stopped):
        pretrain(config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*change)
        with pytest.raises(UserError, match=f"was started with {fact}=rule 2, and is now asked for with rule 3"):
            pretrain(config)
    assert pretrain(config)["steps"] == config.training.steps


def test_a_run_with_fixed_shapes_does_not_go_on_where_text_is_cut_by_another_rule(make_config, disturb, tmp_path):
    config = make_config(tmp_path / "run", **IN_TOKENS)
    refused_by_another_rule(config, disturb, "packing", (packing, "RULE", 3))


def test_a_run_does_not_go_on_where_random_bs_of_the_same_document_are_drawn_by_another_rule(
    make_config, disturb, tmp_path
):
    raised = {"same_document": replace(NEGATIVES["same_document"], rule=3)}
    config = make_config(tmp_path / "run", {"sentence": SentenceConfig(negatives="same_document")})
    refused_by_another_rule(config, disturb, "negatives", (launch, "NEGATIVES", raised))


def test_a_run_does_not_go_on_where_words_are_masked_by_another_rule(make_config, disturb, tmp_path):
    raised = {"whole_word": replace(MASKING["whole_word"], rule=3)}
    config = make_config(tmp_path / "run", {"masking": MaskingConfig(strategy="whole_word")})
    refused_by_another_rule(config, disturb, "whole_word", (launch, "MASKING", raised))


@pytest.mark.filterwarnings("default")  # the compiler reads deprecated attributes of its own
def test_with_compiled_layers_too_and_nothing_is_named_after_the_compiler(make_config, disturb, tmp_path):
    first, second = (make_config(tmp_path / name, **IN_TOKENS, compile=True, steps=6) for name in "ab")
    with pytest.MonkeyPatch.context() as patch:  # graphs are captured, and run by PyTorch: C++ takes too long here
        patch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend="aot_eager"))
        pretrain(first)
        disturb(6, ask_to_stop)
        with pytest.raises(Stopped):
            pretrain(second)
        pretrain(second)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")
    names = [
        *load_file(tmp_path / "a" / "model.safetensors"),
        *load_file(last_checkpoint(tmp_path / "a") / "optimizer.safetensors"),
    ]
    assert [name for name in names if "_orig_mod" in name or "compiled" in name] == []


def test_fillers_are_no_progress(make_config, tmp_path, capsys):
    config = make_config(tmp_path, **IN_TOKENS)
    result = pretrain(config)
    said = capsys.readouterr().out
    stream = launch.Stream(launch.training_sampler(config, open_text(config)), workers=0)
    batches = [batch for batch, _ in islice(stream(Position()), 24)]  # 12 steps of two
    assert {batch.num_tokens for batch in batches} == {256}
    assert result["tokens"] == sum(batch.real_tokens for batch in batches) < 24 * 256
    assert result["sequences"] == sum(batch.real_sequences for batch in batches)
    assert "each micro-batch is 256 tokens in" in said and "% of the tokens are fillers" in said


@pytest.mark.parametrize(
    "step",
    [
        {"steps": 40, "batch_size": 40, "micro_batch_size": 40},  # blocks of other sizes: steps are a good deal smaller
        {"steps": 40, "batch_size": 40, "micro_batch_size": 7},
        {"steps": 20, "batch_size": None, "micro_batch_size": None, "batch_tokens": 512, "micro_batch_tokens": 256},
        {"steps": None, "tokens": 12_000, "batch_size": 40, "micro_batch_size": 40},
    ],
)
def test_the_rate_of_masks_comes_to_its_end_when_the_run_does(make_config, tmp_path, monkeypatch, step):
    monkeypatch.setattr(data, "_STEPS", 0)
    monkeypatch.setattr(data, "BLOCK_BYTES", 8000)
    monkeypatch.setattr(data, "FILLED_BLOCK_BYTES", 8000)
    text = [[f"{a}{b} the cat sat {c}" for c in "ijklmn"] for a in LETTERS for b in LETTERS]  # of one length
    write_text(tmp_path / "text.txt", text)
    parts = {"masking": MaskingConfig(rate=0.3, rate_end=0.1)}
    parts |= {"data": DataConfig(train=str(tmp_path / "text.txt"), cache=str(tmp_path), max_length=32)}
    config = make_config(tmp_path / "run", parts, **step)
    sampler = launch.training_sampler(config, open_text(config))
    stream, tokens = launch.Stream(sampler, workers=0), 0
    last = math.inf if step["steps"] is None else step["steps"] * training_config.micro_batches(config.training)
    for number, (batch, position) in enumerate(stream(Position()), 1):
        tokens, after = tokens + batch.real_tokens, position
        if number == last or tokens >= step.get("tokens", math.inf):
            break
    assert sampler.num_blocks > 3
    assert sampler.recipe.epochs == pytest.approx(stream.epochs(after), rel=0.1)


def test_two_threads_repeat_to_the_last_bit_too(make_config, tmp_path):
    # Wide enough for PyTorch to share the work out; indexing would add gradients up in any order.
    parts = {"model": small_model(128)}
    before = torch.get_num_threads()
    try:
        for name in "ab":
            pretrain(make_config(tmp_path / name, parts, steps=3, batch_size=48, micro_batch_size=48, threads=2))
    finally:
        torch.set_num_threads(before)
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_a_run_that_is_asked_to_stop_before_its_first_step_stops_after_it(whole, make_config, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(launch, "datasets_of", lambda *given: os.kill(os.getpid(), signal.SIGTERM) or [])
        with pytest.raises(Stopped):
            pretrain(make_config(tmp_path / "run"))
    assert last_checkpoint(tmp_path / "run").name == "step-00000001"
    pretrain(make_config(tmp_path / "run"))
    assert files(tmp_path / "run") == files(whole)


def test_another_seed_is_another_run(whole, make_config, tmp_path):
    pretrain(make_config(tmp_path / "run", seed=1))
    mine, other = (load_file(output / "model.safetensors") for output in (tmp_path / "run", whole))
    assert all(not torch.equal(mine[name], other[name]) for name in mine)


def test_what_may_differ_changes_no_weight(whole, make_config, tmp_path):
    config = make_config(tmp_path / "run", keep_checkpoints=1, gradient_checkpointing=True)
    pretrain(replace(config, data=replace(config.data, reader="linecache", tokenize="on_the_fly")))
    weights = (tmp_path / "run" / "model.safetensors").read_bytes()
    assert weights == (whole / "model.safetensors").read_bytes()


def test_from_the_shell_a_term_gives_75_and_the_same_command_goes_on(make_config, tmp_path):
    written = tmp_path / "written.yaml"
    config = make_config(tmp_path / "run", steps=120, eval_every=120, save_every=120)
    written.write_text(yaml.safe_dump(asdict(config)))
    command = [sys.executable, run.__file__, "pretrain", "--config", str(written)]
    first = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = tmp_path / "run" / "metrics.jsonl"
    while first.poll() is None and not (lines.exists() and lines.stat().st_size):
        time.sleep(0.01)
    first.send_signal(signal.SIGTERM)
    _, said = first.communicate(timeout=60)
    assert first.returncode == 75
    assert re.search(r"SIGTERM: saving after this step, then stopping\.\nstopped at step \d+; the same command", said)
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (second.returncode, second.stderr) == (0, "")
    assert "resuming from" in second.stdout
    assert [step for step, _ in metrics(tmp_path / "run")][-3:] == [119, 120, 120]


# Whose folder it is


def test_a_finished_output_says_so_and_does_nothing(copy, make_config, capsys):
    def times() -> dict[Path, int]:
        return {file: file.stat().st_mtime_ns for file in copy.rglob("*") if file.name != ".lock"}

    before = times()
    assert pretrain(make_config(copy)) is None
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == f"'{copy}' is finished: nothing to do. Its results are in {copy / 'metrics.json'}."
    assert times() == before


def test_a_changed_option_is_refused_by_name_with_both_values(copy, make_config):
    (copy / "metrics.json").unlink()
    with pytest.raises(UserError) as raised:
        pretrain(make_config(copy, lr=0.02, warmup=0.2))
    expected = [
        f"output: '{copy}' was started with training.{name}={before}, and is now asked for with {now}."
        for name, before, now in (("lr", 0.01, 0.02), ("warmup", 0.1, 0.2))
    ]
    said = " Use another folder, or continue anyway: --accept_changes '[training.lr,training.warmup]'."
    assert list(raised.value.messages) == [expected[0], expected[1] + said]


def test_another_text_in_the_same_file_is_refused_with_both_fingerprints(make_config, cache, disturb, tmp_path):
    file = write_text(tmp_path / "corpus.txt", made_up_text(30))
    config = make_config(tmp_path / "run", {"data": DataConfig(train=str(file), cache=str(cache), max_length=32)})
    disturb(12, ask_to_stop)
    with pytest.raises(Stopped):
        pretrain(config)
    before = json.loads((tmp_path / "run" / "run_facts.json").read_text())
    write_text(file, made_up_text(30, seed=8))
    with pytest.raises(UserError) as raised:
        pretrain(config)
    (message,) = raised.value.messages
    assert f"was started with corpus={before['corpus'][:8]}... (by its content), and is now asked for with " in message


def test_ranks_that_read_different_texts_are_refused(make_config, tmp_path, monkeypatch):
    monkeypatch.setattr("bert.training.distributed.gathered", lambda mine: [*mine, "of another rank"])
    with pytest.raises(
        UserError, match=r"^data\.train: its text, or that of data\.valid, is not the same for all ranks"
    ):
        pretrain(make_config(tmp_path / "run"))


def test_a_touched_file_with_the_same_text_is_the_same_corpus(make_config, cache, disturb, tmp_path):
    file = write_text(tmp_path / "corpus.txt", made_up_text(30))
    config = make_config(tmp_path / "run", {"data": DataConfig(train=str(file), cache=str(cache), max_length=32)})
    disturb(12, ask_to_stop)
    with pytest.raises(Stopped):
        pretrain(config)
    os.utime(file, ns=(1, 1))
    assert pretrain(config)["steps"] == 12


@pytest.mark.parametrize("damaged", [1, 2])
def test_damaged_checkpoints_are_passed_over_and_never_used(damaged, whole, make_config, disturb, tmp_path, capsys):
    config = make_config(tmp_path / "run")
    disturb(19, crash)  # in step 10: saved are 4 and 8
    with pytest.raises(Killed):
        pretrain(config)
    saved = sorted((tmp_path / "run" / "checkpoints").iterdir(), reverse=True)
    for folder in saved[:damaged]:
        file = folder / "model.safetensors"
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    if damaged == 2:
        with pytest.raises(UserError, match=r"every checkpoint in .* is damaged"):
            pretrain(config)
    else:
        pretrain(config)
        assert f"{saved[0]}: damaged (not what was written: model.safetensors)" in capsys.readouterr().err
        assert files(tmp_path / "run") == files(whole)
        assert metrics(tmp_path / "run") == metrics(whole)


# What a run leaves


def test_metrics_json_is_flat_and_what_the_call_returns(make_config, tmp_path):
    config = make_config(tmp_path, steps=2)
    result = pretrain(config)
    assert json.loads((tmp_path / "metrics.json").read_text()) == result
    assert all(isinstance(value, int | float) for value in result.values())
    losses = {f"valid/{part}_{kind}" for part in ("masked_lm", "sentence") for kind in ("loss", "accuracy")}
    assert losses | {"valid/unigram_cross_entropy", "valid/bits_per_character", "steps", "tokens"} <= result.keys()
    assert {name for name in result if name.startswith("valid/")} == {f"valid/{name}" for name in metric_names(config)}


def test_without_sentences_there_are_no_figures_of_them_and_no_head(make_config, tmp_path):
    config = make_config(tmp_path, {"sentence": NO_SENTENCES}, steps=2)
    result = pretrain(config)
    assert [name for name in result if "sentence" in name] == []
    assert {name for name in result if name.startswith("valid/")} == {f"valid/{name}" for name in metric_names(config)}
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["BertForMaskedLM"]
    assert not [name for name in load_file(tmp_path / "model.safetensors") if "pooler" in name or "seq_rel" in name]


def test_the_root_holds_the_last_weights_and_best_those_of_the_lowest_loss(make_config, monkeypatch, tmp_path):
    losses = iter([3.0] * 5 + [1.0] * 5 + [2.0] * 5)  # three masked sets and two of pairs, three times
    accuracy = {"sentence_accuracy": 0.5}
    monkeypatch.setattr(validation, "evaluate", lambda *of: (accuracy | {"masked_lm_loss": next(losses)}, []))
    result = pretrain(make_config(tmp_path, eval_every=4))
    assert (result["best_step"], result["best_valid/masked_lm_loss"]) == (8, 1.0)
    checkpoints = tmp_path / "checkpoints"
    for folder, step in ((tmp_path, 12), (tmp_path / "best", 8)):
        expected = checkpoints / f"step-{step:08d}" / "model.safetensors"
        assert (folder / "model.safetensors").read_bytes() == expected.read_bytes()


def test_a_model_that_trains_gets_better(make_config, tmp_path):
    # Sixty made-up documents have word frequencies to learn, and nothing else.
    result = pretrain(make_config(tmp_path, steps=80, eval_every=40, save_every=100, log_every=20))
    first, *_, last = [values["train/masked_lm_loss"] for _, values in metrics(tmp_path) if "train/loss" in values]
    assert last < first - 0.3
    assert result["valid/masked_lm_loss"] < 5.4 < 5.7 == round(float(torch.tensor(300.0).log()), 1)


def test_run_yaml_is_a_config_of_the_same_run(whole, make_config):
    written = flatten(yaml.safe_load((whole / "run.yaml").read_text()))
    assert (written["training.lr"], written["sentence.objective"], written["output"]) == (0.01, "nsp", str(whole))
    assert written["model.num_hidden_layers"] == 1


# What a run is told


def test_a_run_that_was_given_no_budget_takes_the_default_and_any_other_keeps_its_own():
    default = with_defaults(PretrainConfig()).training
    assert (default.steps, default.eval_every) == (options.DEFAULT_STEPS, options.DEFAULT_EVAL_EVERY)
    given = with_defaults(PretrainConfig(training=TrainingConfig(epochs=3.0, eval_every=7))).training
    assert (given.steps, given.epochs, given.eval_every) == (None, 3.0, 7)


def test_a_step_is_measured_in_sequences_or_in_tokens_and_by_default_in_32_sequences():
    assert with_defaults(PretrainConfig()).training.batch_size == options.DEFAULT_BATCH_SIZE == 32
    assert with_defaults(PretrainConfig(training=TrainingConfig(batch_size=5))).training.batch_size == 5
    in_tokens = with_defaults(PretrainConfig(training=TrainingConfig(batch_size=None, batch_tokens=4096))).training
    assert (in_tokens.batch_size, in_tokens.batch_tokens) == (None, 4096)


def test_faults_of_all_parts_are_reported_together_before_anything_is_read(make_config, tmp_path):
    parts = {"data": DataConfig(train="no such file", max_length=4)}
    with pytest.raises(UserError) as raised:
        pretrain(make_config(tmp_path / "run", parts, lr=-1.0))
    assert [message.split(":")[0] for message in raised.value.messages] == ["data.max_length", "training.lr"]
    assert not (tmp_path / "run").exists()


def test_attention_that_cannot_run_here_is_refused_before_anything_is_read(make_config, tmp_path):
    config = make_config(
        tmp_path / "run", {"data": DataConfig(train="no such file", max_length=32)}, attention="varlen"
    )
    with pytest.raises(UserError) as raised:
        pretrain(config)
    said = "needs a CUDA device and attention_probs_dropout_prob=0; this is cpu with 0.1."
    assert list(raised.value.messages) == [f"training.attention: 'varlen' {said}"]
    assert not list((tmp_path / "run").glob("*"))


@pytest.mark.parametrize(("batch", "micro_batch"), [(16, 8), (10, 4), (12, 8)])
def test_a_step_takes_no_more_than_batch_size_sequences(batch, micro_batch, make_config, tmp_path):
    result = pretrain(make_config(tmp_path, batch_size=batch, micro_batch_size=micro_batch))
    assert result["sequences"] <= 12 * batch


def test_a_model_of_few_positions_is_reported_like_any_other(make_config, cache, tmp_path):
    numbers = [f"{first}{second}" for first in "abcde" for second in "klmno"]
    documents = [[" ".join(numbers[place:] + numbers[:place]) for place in range(n, n + 4)] for n in range(20)]
    data = DataConfig(train=str(write_text(tmp_path / "corpus.txt", documents)), cache=str(cache), max_length=16)
    parts = {"data": data, "model": small_model(positions=16), "sentence": NO_SENTENCES}
    assert pretrain(make_config(tmp_path / "run", parts, steps=1))["steps"] == 1


def test_a_change_that_is_accepted_by_name_is_said_and_the_run_goes_on(copy, make_config, capsys):
    (copy / "metrics.json").unlink()
    config = make_config(copy, lr=0.02)
    with pytest.raises(UserError, match=r"continue anyway: --accept_changes '\[training\.lr\]'\.$"):
        pretrain(config)
    pretrain(replace(config, accept_changes=["training.lr"]))
    said = capsys.readouterr().out
    assert f"output: '{copy}' continues with training.lr=0.02, which was 0.01" in said and "resuming from" in said


def test_another_budget_that_is_accepted_is_the_run_s(make_config, disturb, tmp_path):
    config = make_config(tmp_path / "run")
    disturb(10, ask_to_stop)  # in step 5 of 12
    with pytest.raises(Stopped):
        pretrain(config)
    changed = replace(config, training=replace(config.training, steps=7), accept_changes=["training.steps"])
    assert pretrain(changed)["steps"] == 7


def test_the_log_of_a_run_that_goes_on_with_another_rate_is_that_of_the_model(make_config, tmp_path):
    config = make_config(tmp_path / "run", save_every=4, log_every=2)
    pretrain(config)
    for name in ("metrics.json", "checkpoints/step-00000012"):  # as if it had been killed after step 12's line
        path = tmp_path / "run" / name
        path.unlink() if path.is_file() else shutil.rmtree(path)
    slower = replace(config, training=replace(config.training, lr=0.001), accept_changes=["training.lr"])
    pretrain(slower)
    rates = {}
    for line in map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()):
        if "train/learning_rate" in line["metrics"]:
            rates[line["step"]] = line["metrics"]["train/learning_rate"]
    assert list(rates) == [2, 4, 6, 8, 10, 12]
    assert min(rates[2], rates[4], rates[6], rates[8]) > 0.001 > max(rates[10], rates[12])


def test_a_change_that_no_checkpoint_fits_is_refused_and_not_written_down(make_config, disturb, tmp_path):
    config = make_config(tmp_path / "run")
    disturb(10, ask_to_stop)
    with pytest.raises(Stopped):
        pretrain(config)
    wider = {"model": small_model(width=32), "accept_changes": ["model.hidden_size", "model.intermediate_size"]}
    with pytest.raises(UserError, match="but the model"):
        pretrain(replace(config, **wider))
    assert pretrain(config)["steps"] == 12


def test_another_corpus_may_be_accepted_too(copy, make_config, cache, tmp_path):
    (copy / "metrics.json").unlink()
    other = write_text(tmp_path / "other.txt", made_up_text(60, seed=8))
    config = make_config(copy)
    config = replace(config, data=replace(config.data, train=str(other)))
    tokenizer = (copy / "tokenizer.json").read_bytes()
    with pytest.raises(UserError, match=r"was started with corpus=.*continue anyway: --accept_changes '\[corpus\]'\.$"):
        pretrain(config)
    pretrain(replace(config, accept_changes=["corpus"]))
    assert (copy / "metrics.json").is_file() and (copy / "tokenizer.json").read_bytes() == tokenizer
    with pytest.raises(UserError, match=r"was started with corpus=.*; a finished run cannot be changed"):
        pretrain(make_config(copy))


def test_a_tokenizer_trained_otherwise_is_not_accepted(copy, make_config):
    (copy / "metrics.json").unlink()
    other = {"tokenizer": TokenizerConfig(vocab_size=280), "accept_changes": ["tokenizer.vocab_size", "tokenizer"]}
    with pytest.raises(UserError, match=r"was started with tokenizer=.*\. Use another folder\.$"):
        pretrain(replace(make_config(copy), **other))


def test_a_damaged_tokenizer_in_the_newest_checkpoint_is_passed_over(copy, make_config, capsys):
    (copy / "metrics.json").unlink()
    *_, last = sorted((copy / "checkpoints").iterdir())
    content = (last / "tokenizer.json").read_bytes()
    for damaged in (content[:100], content.replace(b'"a"', b'"\xc3\xa9"')):
        (last / "tokenizer.json").write_bytes(damaged)
        shutil.rmtree(copy / "best", ignore_errors=True)
        pretrain(make_config(copy))
        assert f"{last}: damaged" in capsys.readouterr().err
        (copy / "metrics.json").unlink()


def test_a_finished_run_is_finished_whatever_became_of_its_checkpoints(copy, make_config, capsys):
    for folder in (copy / "checkpoints").iterdir():
        (folder / "tokenizer.json").write_text("{")
    assert pretrain(make_config(copy)) is None
    assert "is finished: nothing to do" in capsys.readouterr().out


def test_a_run_goes_on_with_the_tokens_it_began_with_whatever_is_accepted(copy, make_config):
    (copy / "metrics.json").unlink()
    other = TokenizerConfig(path=str(copy / "other.json"))
    words = json.loads((copy / "tokenizer.json").read_text())
    vocabulary = words["model"]["vocab"]
    first, second = sorted(vocabulary, key=vocabulary.get)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (copy / "other.json").write_text(json.dumps(words))
    accepted = ["tokenizer", "tokenizer.path", "tokenizer.vocab_size"]
    with pytest.raises(UserError, match=r"was started with tokenizer=.*\. Use another folder\.$"):
        pretrain(replace(make_config(copy), tokenizer=other, accept_changes=accepted))


def test_a_profile_is_left_when_asked_for_and_the_speed_beside_the_possible_always(make_config, tmp_path, capfd):
    pretrain(make_config(tmp_path / "run", profile=True))
    assert "aten::" in (tmp_path / "run" / "profile" / "operations.txt").read_text()
    trace = json.loads((tmp_path / "run" / "profile" / "trace.json").read_text())
    assert any(event.get("name", "").startswith("aten::") for event in trace["traceEvents"])
    lines = [json.loads(line)["metrics"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(0 < line["speed/mfu"] < 1 for line in lines if "train/loss" in line)


def test_an_audit_alone_leaves_a_run_s_folder_alone(copy, make_config):
    with pytest.raises(UserError, match="holds a run, which has an audit of its own"):
        launch.audit_only(make_config(copy))


def test_jsonl_given_as_text_is_told_how_to_say_so(make_config, tmp_path):
    (tmp_path / "lines.jsonl").write_text('{"text": "a"}\n')
    config = make_config(tmp_path / "run")
    config = replace(config, data=replace(config.data, train=str(tmp_path / "lines.jsonl")))
    with pytest.raises(UserError, match=r"is JSONL by its name, not text: --data.format jsonl --data.text FIELD"):
        pretrain(config)
