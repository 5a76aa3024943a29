"""From a PretrainConfig to a finished run: text, batches, model, loop, report."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import torch

from bert import whole_file
from bert.counting import count_of
from bert.encoder import encoders_in
from bert.errors import UserError, refuse_if
from bert.training import checkpoint, distributed, identity, lock, provenance
from bert.training import config as training_config
from bert.training.conclude import conclude
from bert.training.config import TrainingConfig
from bert.training.device import choose_device, default_workers, refuse_unfit_attention
from bert.training.goal import Goal
from bert.training.loop import fit
from bert.training.metrics_file import METRICS, values_at
from bert.training.mlflow_feed import resolve
from bert.training.stopping import stop_requests
from bert.training.tracking import Tracker, track
from pretrain import packing
from pretrain.audit.audit import FILES as AUDIT_FILES
from pretrain.audit.audit import audit
from pretrain.block import Block
from pretrain.config import PretrainConfig
from pretrain.data import Recipe, Sampler
from pretrain.masking import MASKING
from pretrain.negatives import NEGATIVES
from pretrain.objectives import OBJECTIVES
from pretrain.options import FREE, check, with_defaults
from pretrain.packing import Shape, shape_of
from pretrain.report import AT_START, print_report, sampling_in_words
from pretrain.sentence import SENTENCE
from pretrain.start import Start, build_objective, model_config, open_start, own_tokenizer
from pretrain.stream import Stream
from pretrain.text import TextToLearn, datasets_of, open_text
from pretrain.validation import JUDGED_ON, MICRO_BATCH, build_validation

READ_FROM = "read_from.json"
"""The file in a run's output with the names of its corpus files: what the patterns in data.train stood for."""


def pretrain(config: PretrainConfig) -> dict[str, float] | None:
    """Run, resume or decline a pretraining run, and print its results.

    Returns:
        The metrics in metrics.json; None if the output was finished before.

    Raises:
        UserError: anything the user can fix.
        Stopped: a signal asked to stop.
    """
    config = with_defaults(config)
    refuse_if(check(config))
    resolve(config.tracking.uri)  # now, not once all text has been read
    device = choose_device(config.training)
    with lock.hold(Path(config.output)):
        return _continue(config, device)


def _continue(config: PretrainConfig, device: torch.device) -> dict[str, float] | None:
    output = Path(config.output)
    with distributed.first_alone():
        start = open_start(config)
        refuse_unfit_attention(config.training, device, model_config(config, start))
        text = open_text(config, own_tokenizer(config) if start is None else start.tokenizer)
    _refuse_different_texts(text)
    sampler = training_sampler(config, text)
    facts = {
        "corpus": text.fingerprint,
        "tokenizer": text.tokenizer.fingerprint,
        "blocks": str(sampler.num_blocks),
        **({} if config.data.exponent == 1 else {"mixture": text.drawn_documents.file.stem}),
        **_rules(config),
        **sampler.sentence.facts(sampler.pool),
        **OBJECTIVES[config.objective].facts(config),
        **({} if start is None else start.facts),
    }
    accepted, defaults = tuple(config.accept_changes), asdict(PretrainConfig())
    state = distributed.from_first(lambda: identity.state_of(output, asdict(config), facts, FREE, accepted, defaults))
    if state == "finished":
        identity.say_finished(output)
        return None
    return _run(config, start, text, sampler, facts, device, state)


def _refuse_different_texts(text: TextToLearn) -> None:
    """Refuse ranks whose files differ, as where a machine's own copy of a folder lacks some."""
    if len(set(distributed.gathered([text.fingerprint]))) > 1:
        raise UserError("data.train: its text, or that of data.valid, is not the same for all ranks of the run.")


def _judged_before(output: Path) -> dict[str, str] | None:
    """The frozen sets that the folder's run was evaluated on so far; None where it has not begun."""
    file = output / JUDGED_ON
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _rules(config: PretrainConfig) -> dict[str, str]:
    """Versions of the rules by which text becomes batches, for those that have changed."""
    strategy = MASKING[config.masking.strategy]
    rules = {} if config.training.batch_tokens is None else {"packing": f"rule {packing.RULE}"}
    for sentence in config.sentence.judged_on.values():  # trained on or not
        if SENTENCE[sentence.objective].replaces_b and (rule := NEGATIVES[sentence.negatives].rule) > 1:
            rules["negatives"] = f"rule {rule}"
    if strategy.rule > 1 and config.masking.count == "fixed":
        rules[config.masking.strategy] = f"rule {strategy.rule}"
    if config.masking.rate_end is not None:
        rules["rate_end"] = "rule 2"  # by micro-batch, and until the run's end
    if config.training.batch_tokens is None and training_config.micro_batches(config.training) > 1:
        rules["batches"] = "rule 2"  # steps are split into micro-batches, not blocks
    return rules


def audit_only(config: PretrainConfig) -> None:
    """Audit what a run of this configuration would be trained on, without training."""
    config = with_defaults(config)
    refuse_if(check(config))
    if (Path(config.output) / METRICS).is_file():
        raise UserError(f"output: '{config.output}' holds a run, which has an audit of its own. Use another folder.")
    start = open_start(config)
    text = open_text(config, start and start.tokenizer)
    sampler = training_sampler(config, text)
    print(sampling_in_words(_first_block(sampler), sampler))
    audit(sampler, text, config)
    print(f"\nall of it:  {Path(config.output) / AUDIT_FILES[0]} and {AUDIT_FILES[1]}")


def training_sampler(config: PretrainConfig, text: TextToLearn) -> Sampler:
    """The sampler that a run trains on."""
    training = config.training
    parts = training_config.micro_batches(training)
    # With batch_tokens this is for an estimate of lengths, in which any size will do.
    size = training.batch_size or MICRO_BATCH
    recipe = Recipe(config.data, config.sentence, config.masking, size, training.seed, parts)
    sampler = Sampler(text.source, text.drawn_documents, text.tokenizer, recipe)
    if training.batch_tokens is not None:
        recipe = replace(recipe, shape=_shape(config, _first_block(sampler).tally))
        sampler = Sampler(text.source, text.drawn_documents, text.tokenizer, recipe)
    if config.masking.rate_end is not None:
        recipe = replace(recipe, epochs=_epochs(training, sampler))
        sampler = Sampler(text.source, text.drawn_documents, text.tokenizer, recipe)
    return sampler


def _shape(config: PretrainConfig, tally: dict[str, int]) -> Shape:
    """The shape of every micro-batch, estimated from the first block of documents."""
    rate = max(config.masking.rate, config.masking.rate_end or 0.0)
    mean_length = tally["tokens"] / tally["sequences"]
    return shape_of(training_config.micro_batch_size(config.training), config.data.max_length, mean_length, rate)


def _epochs(training: TrainingConfig, sampler: Sampler) -> float:
    """The budget in epochs, estimated from the first block of documents."""
    if training.epochs is not None:
        return training.epochs
    block = _first_block(sampler)
    if training.steps is not None:
        return training.steps * training_config.micro_batches(training) / (len(block) * sampler.num_blocks)
    return training.tokens / (block.tally["tokens"] * sampler.num_blocks)


def _run(
    config: PretrainConfig,
    start: Start | None,
    text: TextToLearn,
    sampler: Sampler,
    facts: dict[str, str],
    device: torch.device,
    state: Literal["new", "unfinished", "changed"],
) -> dict[str, float]:
    output, first = Path(config.output), _first_block(sampler)
    tally = first.tally
    print(sampling_in_words(first, sampler))
    if config.audit.sequences and state == "new" and distributed.is_first():
        audit(sampler, text, config)
    distributed.wait()
    validation = build_validation(config, text)
    print(validation.in_words(tally["tokens"] / tally["sequences"]))
    stream = Stream(sampler, default_workers(config.training, device))
    objective = build_objective(config, text.tokenizer, start, device)
    judged_on, last = validation.fingerprints(config.sentence.objective), math.inf
    judged_alike = distributed.from_first(lambda: _judged_before(output) in (None, judged_on))
    if state == "changed":
        last = checkpoint.change_course(output, objective, judged_alike)
    tags = provenance.of_run("pretrain", device, facts, config.init if state == "new" else None)
    tags |= {f"judged_on.{name}": value for name, value in judged_on.items()}
    if state != "new":
        tags |= identity.accepted_tag(asdict(config), facts, tuple(config.accept_changes))
    model = asdict(config.model) if config.init is None else {}  # the preset
    model |= provenance.model_params(objective, objective.bert.config)
    described = asdict(config) | {"model": model, "data_sample": tally}
    with track(output, config.tracking, described, tags, state != "new", last) as tracker, stop_requests():
        if distributed.is_first():  # not before the tracker has cut off the lines of a changed run
            identity.claim(output, asdict(config), facts)
            whole_file.write(output / JUDGED_ON, json.dumps(judged_on, indent=2) + "\n")
            files = {"data.train": text.train_files, "data.valid": text.valid_files}
            whole_file.write(output / READ_FROM, json.dumps(files, indent=2, ensure_ascii=False, default=str) + "\n")
        tracker.datasets(datasets_of(text))
        evaluate_now = validation.evaluator(config, objective, device)
        goal = Goal(objective.goal, higher_is_better=False, root="last")
        at_start = _evaluated_at_start(output, start, evaluate_now, tracker) if judged_alike else {}
        result = fit(objective, stream, evaluate_now, config.training, goal, output, tracker)
        result |= {f"{AT_START}{name}": value for name, value in at_start.items() if name == goal.metric}
        for encoder in encoders_in(objective):
            encoder.attend_by("sdpa")  # from here on as its users will use it: fp32, any device
        if distributed.is_first():
            served = objective.served()
            conclude(output, result, served, result["steps"], AUDIT_FILES, tracker)
    if distributed.is_first():
        print_report(config, result, objective, text, served)
    return result


def _evaluated_at_start(
    output: Path, start: Start | None, evaluate: Callable[[], dict[str, float]], tracker: Tracker
) -> dict[str, float]:
    """What the model of init reaches, logged as step 0 before the first; nothing where there is no such model."""
    if start is None:
        return {}
    known = distributed.from_first(lambda: values_at(output / METRICS, 0, "valid/"))
    if known or start.own:  # resumed: of the start there is what was noted then
        return known
    found = evaluate()
    tracker.log(0, found)
    shown = ", ".join(f"{name.removeprefix('valid/')} {value:.4g}" for name, value in found.items())
    print(f"step 0, the model of init: {shown}")
    return found


def _first_block(sampler: Sampler) -> Block:
    """The first block with an example; refuses a corpus that gives none."""
    left_out = 0
    for number in range(sampler.num_blocks):
        block = sampler.block(0, number)
        if len(block):
            return block
        left_out += block.tally.get("pairs_left_out", 0)
    if left_out:
        asked = sampler.recipe.sentence.negatives
        raise UserError(f"sentence.negatives: {asked} finds no random B for any pair; its documents are too few.")
    single = "; sentence.objective=none with sentence.input=doc_sentences needs one" * (sampler.input.segments > 1)
    raise UserError(
        f"data.train: no example in it: sentence.input={sampler.recipe.sentence.input} needs documents of at least "
        f"{count_of(sampler.input.segments, 'sentence')}{single}. A line of text is a sentence unless "
        f"data.split_sentences=true looks for them within lines."
    )
