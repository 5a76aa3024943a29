import contextlib
import json
import math
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from bert.config import ModelConfig
from bert.errors import UserError
from bert.packed import PackedBatch, starts_of
from bert.training import checkpoint, loop
from bert.training.config import TrainingConfig
from bert.training.evaluation import evaluate
from bert.training.goal import Goal
from bert.training.loop import fit
from bert.training.optim import build_optimizer
from bert.training.position import Position
from bert.training.step import training_step
from bert.training.stopping import Stopped
from pretrain.objectives.masked_lm import MaskedLM
from tests.training.conftest import Log, Toy, ToyData, batch_of

CPU = torch.device("cpu")
LOSS = Goal("valid/token_loss", higher_is_better=False, root="last")
SMALL = {"batch_size": 4, "micro_batch_size": 2, "lr": 0.05, "log_every": 1, "eval_every": 4, "save_every": 4}
JUDGED_BY = [batch_of([1, 2, 3], [4]), batch_of([5, 6])]


def config_of(**changes) -> TrainingConfig:
    """A small run of 12 steps, or of another budget."""
    budget = {} if {"epochs", "tokens", "minutes"} & changes.keys() else {"steps": 12}
    return TrainingConfig(**budget | SMALL | changes)


class Killed(Exception):
    """Stands for a crash: nothing in the loop knows it."""


class DisturbedData(ToyData):
    """Does something before it gives the micro-batch of that number, counted from 1."""

    def __init__(self, at: int, disturb) -> None:
        super().__init__()
        self.at, self.disturb, self.given = at, disturb, 0

    def __call__(self, position: Position):
        for item in super().__call__(position):
            self.given += 1
            if self.given == self.at:
                self.disturb()
            yield item


def crash() -> None:
    raise Killed


def ask_to_stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def run(output: Path, config: TrainingConfig, *, data=None, log=None, judge=None, goal=LOSS, objective=None) -> dict:
    """A run of the toy with dropout, on 12 steps of two micro-batches where the config says no more."""
    objective = objective or Toy(dropout=0.3)

    def by_its_losses() -> dict[str, float]:
        found, _ = evaluate(objective, JUDGED_BY, CPU, contextlib.nullcontext())
        return {f"valid/{name}": value for name, value in found.items()}

    return fit(objective, data or ToyData(), judge or by_its_losses, config, goal, output, log or Log())


def checkpoints(output: Path) -> list[int]:
    return sorted(int(folder.name.removeprefix("step-")) for folder in (output / "checkpoints").iterdir())


def contents(output: Path) -> dict[str, bytes]:
    """Every file a run left, but the checkpoints that are not its last."""
    last = f"step-{checkpoints(output)[-1]:08d}"
    files = [file for file in output.rglob("*") if file.is_file()]
    names = {str(file.relative_to(output)): file for file in files}
    return {n: file.read_bytes() for n, file in names.items() if not n.startswith("checkpoints") or last in n}


# One step


def stepped(objective, batches: list[PackedBatch], config: TrainingConfig, step: int = 0):
    """The sums, counts and norm of one step of AdamW, and the parameters after it."""
    optimizer = build_optimizer(objective, config)
    did = training_step(objective, batches, optimizer, config, step, CPU)
    assert all(parameter.grad is None for parameter in objective.parameters())
    return did.sums, did.counts, did.norm, [parameter.detach().clone() for parameter in objective.parameters()]


def gradients(objective, batches: list[PackedBatch], config: TrainingConfig) -> list[torch.Tensor]:
    """What a step of plain descent at rate 1 takes away."""
    before = [parameter.detach().clone() for parameter in objective.parameters()]
    training_step(objective, batches, torch.optim.SGD(objective.parameters(), lr=1.0, fused=True), config, 0, CPU)
    return [b - parameter.detach() for b, parameter in zip(before, objective.parameters(), strict=True)]


def cut_at(sequences: list, cuts: tuple[int, ...]) -> list[list]:
    ends = (*sorted(cuts), len(sequences))
    return [sequences[a:b] for a, b in zip((0, *ends), ends, strict=False) if b > a]


@pytest.mark.parametrize("cuts", [(), (2,), (1,), (1, 2, 4)])
def test_each_loss_is_divided_once_by_its_own_count(cuts):
    # The table is 0 and the bias 3, so every vector is (3, 3, 3). The mean square has gradient 2 * 3 = 6 in each
    # component of the bias; the sequences' first tokens are 2 above 1, so half their mean distance adds 0.5.
    objective = Toy()
    with torch.no_grad():
        objective.table.zero_()
        objective.bias.fill_(3.0)
    sequences = [[0, 1, 2, 3], [4], [5, 6], [7, 8, 9, 0, 1]]
    batches = [batch_of(*piece) for piece in cut_at(sequences, cuts)]
    found = gradients(objective, batches, config_of(max_grad_norm=0.0))
    torch.testing.assert_close(found[1], torch.full((3,), 6.5))


def test_a_single_target_is_divided_by_one_and_none_by_nothing():
    objective = Toy()
    with torch.no_grad():
        objective.table.zero_()
        objective.bias.fill_(3.0)
    # The square of (3, 3, 3) has gradient 6 in each component, and the distance from 1, weighed 0.5, half a one.
    found = gradients(objective, [batch_of([4])], config_of(max_grad_norm=0.0))
    torch.testing.assert_close(found[1], torch.full((3,), 6.5))
    objective.counts = lambda batch: {"token_loss": 0, "large": 0, "sequence_loss": 0}
    objective.forward = lambda batch: {"token_loss": 0 * objective.bias.sum(), "large": torch.tensor(0)}
    assert gradients(objective, [batch_of([4])], config_of())[1].tolist() == [0.0, 0.0, 0.0]


@given(
    sequences=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=8),
    cuts=st.sets(st.integers(1, 7), max_size=4),
)
def test_how_a_step_is_cut_into_micro_batches_changes_nothing(sequences, cuts):
    config = TrainingConfig(steps=1, lr=0.05)
    whole = stepped(Toy(), [batch_of(*sequences)], config)
    pieces = cut_at(sequences, tuple(cut for cut in cuts if cut < len(sequences)))
    cut = stepped(Toy(), [batch_of(*piece) for piece in pieces], config)
    assert cut[1] == whole[1]
    torch.testing.assert_close(cut[0], whole[0], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(cut[2:], whole[2:], atol=1e-6, rtol=1e-6)


def pretraining_batch(sequences: list[list[int]], labels: list[int]) -> PackedBatch:
    """Every sequence's tokens with an odd id are to be predicted: so their number differs between micro-batches."""
    ids = torch.tensor([number for sequence in sequences for number in sequence])
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    masked = (ids % 2 == 1).nonzero().flatten()
    targets = {"masked_index": masked, "masked_labels": ids[masked], "sentence_labels": torch.tensor(labels)}
    places = torch.cat([torch.arange(n) for n in lengths])
    return PackedBatch(ids, (places > 1).long(), places, starts_of(lengths), 8, targets)


@pytest.mark.parametrize("cuts", [(4,), (1, 3, 7), (1, 2, 3, 4, 5, 6, 7)])
def test_nor_does_it_in_pretraining(cuts, unsettled):
    torch.manual_seed(3)
    lengths = torch.randint(1, 9, (8,)).tolist()
    sequences = [torch.randint(0, 20, (n,)).tolist() for n in lengths]
    labels = [0, 1, 1, 0, 1, 0, 0, 0]
    sizes = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "max_position_embeddings": 8}

    def objective() -> MaskedLM:
        torch.manual_seed(0)
        return unsettled(MaskedLM(ModelConfig(20, 16, 2, 2, 24, **sizes), None, 2))

    places = cut_at(list(range(8)), cuts)
    pieces = [pretraining_batch([sequences[n] for n in piece], [labels[n] for n in piece]) for piece in places]
    config = TrainingConfig(steps=1, lr=1e-3)
    whole_sums, whole_counts, whole_norm, _ = stepped(objective(), [pretraining_batch(sequences, labels)], config)
    cut_sums, cut_counts, cut_norm, _ = stepped(objective(), pieces, config)
    assert cut_counts == whole_counts
    assert whole_counts["masked_lm_loss"] != whole_counts["sentence_loss"]
    torch.testing.assert_close([cut_sums, cut_norm], [whole_sums, whole_norm], atol=1e-6, rtol=1e-5)
    config = TrainingConfig(steps=1, max_grad_norm=0.0)
    whole = gradients(objective(), [pretraining_batch(sequences, labels)], config)
    torch.testing.assert_close(gradients(objective(), pieces, config), whole, atol=1e-6, rtol=1e-5)


def test_a_large_gradient_is_scaled_down_to_the_norm_and_a_small_one_left():
    batches = [batch_of([1, 2], [3])]
    free = torch.cat([g.flatten() for g in gradients(Toy(), batches, config_of(max_grad_norm=0.0))])
    norm = float(free.norm())
    clipped = torch.cat([g.flatten() for g in gradients(Toy(), batches, config_of(max_grad_norm=norm / 4))])
    torch.testing.assert_close(clipped, free / 4, atol=1e-6, rtol=1e-4)
    left = torch.cat([g.flatten() for g in gradients(Toy(), batches, config_of(max_grad_norm=2 * norm))])
    torch.testing.assert_close(left, free)


@pytest.mark.parametrize("limit", [0.5, 100.0, 0.0])
def test_steps_of_the_run_s_optimizer_are_those_of_plain_adamw_on_clipped_gradients(limit):
    config = config_of(max_grad_norm=limit, weight_decay=0.0)
    ours, plain = Toy(), Toy()
    optimizer, reference = build_optimizer(ours, config), build_optimizer(plain, config)
    for group in reference.param_groups:
        group["fused"] = False
    for step, sequences in enumerate(([1, 2], [3], [4, 5, 6])):  # at the first step alone, Adam hides the scale
        training_step(ours, [batch_of(sequences)], optimizer, config, step, CPU)
        batch = batch_of(sequences)
        sums, counts = plain(batch), plain.counts(batch)
        sum(weight * sums[name] / counts[name] for name, weight in plain.weights.items()).backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), limit or math.inf)
        reference.step()
        reference.zero_grad()
    torch.testing.assert_close([*ours.parameters()], [*plain.parameters()], atol=1e-6, rtol=1e-5)
    moments = [[one.state[p]["exp_avg_sq"] for p in one.state] for one in (optimizer, reference)]
    torch.testing.assert_close(*moments, atol=1e-9, rtol=1e-4)


def test_the_norm_that_is_told_is_that_before_clipping():
    _, _, free, _ = stepped(Toy(), [batch_of([1, 2])], config_of(max_grad_norm=0.0))
    _, _, clipped, _ = stepped(Toy(), [batch_of([1, 2])], config_of(max_grad_norm=0.001))
    assert float(clipped) == float(free) > 1


def test_dropout_depends_on_seed_step_and_micro_batch_alone():
    same = [batch_of([1, 2, 3])] * 2

    def losses(step: int, seed: int = 0) -> float:
        torch.manual_seed(step * 31)  # what was drawn before plays no part
        return float(stepped(Toy(dropout=0.5), same, config_of(seed=seed), step)[0]["token_loss"])

    assert losses(5) == losses(5)
    assert len({losses(5), losses(6), losses(5, seed=1)}) == 3
    alone = [float(stepped(Toy(dropout=0.5), same[:1], config_of(), 5)[0]["token_loss"])]
    assert 2 * alone[0] != losses(5)  # the second micro-batch drops others


# A run


def test_the_rate_is_that_of_the_middle_of_each_step_and_never_zero(tmp_path):
    log = Log()
    run(tmp_path, config_of(steps=4, lr=8.0, warmup=0.5, schedule="linear"), log=log)
    # Shares of the budget in the middle of each step: 1/8, 3/8, 5/8, 7/8.
    assert log.values["train/learning_rate"] == {1: 2.0, 2: 6.0, 3: 6.0, 4: 2.0}


@pytest.mark.parametrize(
    ("budget", "steps"),
    [({"steps": 5}, 5), ({"epochs": 2.0}, 6), ({"epochs": 0.5}, 2), ({"epochs": 0.01}, 1)],
)
def test_a_run_ends_where_its_budget_does(budget, steps, tmp_path):
    # An epoch of the toy's data is six micro-batches: three steps of two.
    result = run(tmp_path, config_of(**budget))
    assert (result["steps"], result["sequences"]) == (steps, 4 * steps)
    assert result["epochs"] == pytest.approx(steps / 3)


def test_a_budget_of_tokens_ends_with_the_step_that_spends_it(tmp_path):
    stream = ToyData()(Position())
    sizes = [sum(next(stream)[0].num_tokens for _ in range(2)) for _ in range(6)]
    for amount in (sum(sizes[:3]), sum(sizes[:3]) + 1):
        result = run(tmp_path / str(amount), config_of(tokens=amount))
        assert result["steps"] == (3 if amount == sum(sizes[:3]) else 4)
        assert result["tokens"] == sum(sizes[: result["steps"]])


def test_what_is_logged_is_the_mean_over_the_window_s_targets(tmp_path):
    log = Log()
    run(tmp_path, config_of(steps=6, log_every=3, lr=1e-12, save_every=100), log=log, objective=Toy())
    stream = ToyData()(Position())
    for window in (3, 6):
        batches = [next(stream)[0] for _ in range(6)]
        expected, _ = evaluate(Toy(), batches, CPU, contextlib.nullcontext())
        for name, value in expected.items():
            assert log.values[f"train/{name}"][window] == pytest.approx(value, rel=1e-5)
        total = expected["token_loss"] + 0.5 * expected["sequence_loss"]
        assert log.values["train/loss"][window] == pytest.approx(total, rel=1e-5)
        assert log.values["train/tokens"][window] == sum(batch.num_tokens for batch in batches) + (
            log.values["train/tokens"][3] if window == 6 else 0
        )
    assert log.values["train/epochs"] == {3: 1.0, 6: 2.0}
    assert all(value > 0 for value in log.values["speed/tokens_per_second"].values())


def test_dropout_is_on_in_training_whatever_the_mode_of_before(tmp_path):
    logs = {name: Log() for name in ("training", "evaluating", "without")}
    objectives = {"training": Toy(0.5).train(), "evaluating": Toy(0.5).eval(), "without": Toy(0.0)}
    for name, objective in objectives.items():
        run(tmp_path / name, config_of(steps=2), log=logs[name], objective=objective)
    losses = {name: log.values["train/loss"] for name, log in logs.items()}
    assert losses["training"] == losses["evaluating"] != losses["without"]


def test_training_is_logged_at_its_interval_and_at_each_save(tmp_path):
    log = Log()
    run(tmp_path, config_of(steps=11, log_every=3, save_every=5, eval_every=4), log=log)
    assert list(log.values["train/loss"]) == [3, 5, 6, 9, 10, 11]
    assert list(log.values["valid/token_loss"]) == [4, 8, 11]


def test_a_checkpoint_is_saved_at_each_interval_and_at_the_end_and_the_newest_are_kept(tmp_path):
    run(tmp_path, config_of(steps=10, save_every=4, keep_checkpoints=2))
    assert checkpoints(tmp_path) == [8, 10]
    run(tmp_path / "more", config_of(steps=10, save_every=4, keep_checkpoints=5))
    assert checkpoints(tmp_path / "more") == [4, 8, 10]


@pytest.mark.parametrize(("higher", "scores", "best_step"), [(False, [3, 1, 2], 8), (True, [3, 1, 4], 12)])
@pytest.mark.parametrize("root", ["last", "best"])
def test_the_best_and_the_last_weights_are_both_left(root, higher, scores, best_step, tmp_path):
    objective, tables = Toy(), []

    def judge() -> dict[str, float]:
        tables.append(objective.table.detach().clone())
        return {"valid/token_loss": float(scores[len(tables) - 1])}

    goal = Goal("valid/token_loss", higher_is_better=higher, root=root)
    result = run(tmp_path, config_of(), judge=judge, goal=goal, objective=objective)
    best, last = tables[best_step // 4 - 1], tables[2]
    beside = {"last": "best", "best": "last"}[root]
    assert torch.equal(load_file(tmp_path / "model.safetensors")["table"], best if root == "best" else last)
    assert torch.equal(load_file(tmp_path / beside / "model.safetensors")["table"], last if root == "best" else best)
    assert (result["best_step"], result["best_valid/token_loss"]) == (best_step, scores[best_step // 4 - 1])


class Scores:
    """Judges by a list, one after another, and remembers the weights it saw."""

    def __init__(self, objective: Toy, scores: list[float]) -> None:
        self.objective, self.scores, self.tables = objective, iter(scores), []

    def __call__(self) -> dict[str, float]:
        self.tables.append(self.objective.table.detach().clone())
        return {"valid/token_loss": next(self.scores)}


def test_the_best_weights_are_those_of_the_best_score_though_a_replay_scores_otherwise(tmp_path):
    config = config_of(eval_every=2)  # and saved every 4th step
    first, second = Toy(), Toy()
    before, after = Scores(first, [0.9, 0.8, 0.5]), Scores(second, [0.7, 0.6, 0.65, 0.66])  # as on a GPU, say
    with pytest.raises(Killed):
        run(tmp_path, config, data=DisturbedData(14, crash), judge=before, objective=first)  # in step 7
    result = run(tmp_path, config, judge=after, objective=second)
    assert (result["best_step"], result["best_valid/token_loss"]) == (6, 0.5)
    assert torch.equal(load_file(tmp_path / "best" / "model.safetensors")["table"], before.tables[2])


def test_where_the_best_weights_are_gone_the_next_ones_are_the_best(tmp_path):
    config = config_of(eval_every=2)
    objective = Toy()
    with pytest.raises(Killed):
        run(
            tmp_path,
            config,
            data=DisturbedData(14, crash),
            judge=Scores(objective, [0.1, 0.2, 0.3]),
            objective=objective,
        )
    shutil.rmtree(tmp_path / "best")
    goal, again = Goal("valid/token_loss", higher_is_better=False, root="best"), Toy()
    result = run(tmp_path, config, judge=Scores(again, [0.7, 0.6, 0.65, 0.66]), objective=again, goal=goal)
    assert (result["best_step"], result["best_valid/token_loss"]) == (8, 0.6)


@pytest.mark.parametrize(("fails", "best"), [(1, (8, 0.8)), (2, (12, 0.85)), (3, (8, 0.8))])
def test_a_disk_that_is_full_for_the_best_weights_ends_no_run_that_is_to_go_on(fails, best, tmp_path, monkeypatch):
    objective = Toy()
    export, tried = checkpoint.export, []

    def full_once(*given) -> None:
        tried.append(given)
        if len(tried) == fails:
            raise OSError(28, "No space left on device")
        export(*given)

    monkeypatch.setattr(checkpoint, "export", full_once)
    goal = Goal("valid/token_loss", higher_is_better=False, root="best")
    judge = Scores(objective, [0.9, 0.8, 0.85])
    result = run(tmp_path, config_of(save_error="go_on"), judge=judge, goal=goal, objective=objective)
    assert (result["best_step"], result["best_valid/token_loss"]) == best
    assert torch.equal(load_file(tmp_path / "model.safetensors")["table"], judge.tables[best[0] // 4 - 1])


def test_a_disk_that_is_full_for_the_model_itself_ends_the_run_and_the_same_command_finishes_it(tmp_path, monkeypatch):
    def full(objective, folder) -> None:
        raise OSError(28, "No space left on device")

    export = Toy.export
    monkeypatch.setattr(Toy, "export", lambda self, folder: (full if folder == tmp_path else export)(self, folder))
    with pytest.raises(UserError, match=r"^output: cannot write to '.*No space left on device; the last checkpoint is"):
        run(tmp_path, config_of(save_error="go_on"))
    monkeypatch.undo()
    run(tmp_path, config_of(save_error="go_on"))
    assert (tmp_path / "model.safetensors").is_file()


def test_without_any_score_that_is_a_number_the_last_weights_are_left(tmp_path):
    objective = Toy()
    goal = Goal("valid/token_loss", higher_is_better=False, root="best")
    result = run(tmp_path, config_of(), judge=Scores(objective, [math.nan] * 3), goal=goal, objective=objective)
    assert result["best_step"] is None
    assert torch.equal(load_file(tmp_path / "model.safetensors")["table"], objective.table.detach())


def test_a_run_that_begins_anew_has_nothing_of_one_that_was_killed_before_it_saved(tmp_path):
    other = Toy()
    checkpoint.export(other, tmp_path / "best", {"best": -1.0, "best_step": 400, "best_among_equals": None})
    with pytest.raises(Stopped):
        run(tmp_path, config_of(eval_every=100), data=DisturbedData(3, ask_to_stop))
    assert not (tmp_path / "best").exists()
    goal = Goal("valid/token_loss", higher_is_better=False, root="best")
    assert run(tmp_path, config_of(eval_every=100), goal=goal)["best_step"] == 12


def test_a_stop_that_cannot_be_saved_does_not_say_that_it_was(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(UserError, match="No space left on device"):
        run(tmp_path, config_of(save_error="go_on"), data=DisturbedData(3, ask_to_stop))
    assert not (tmp_path / loop.STOPPED).exists()


def test_patience_starts_anew_where_the_best_weights_are_gone(tmp_path):
    goal = Goal("valid/token_loss", higher_is_better=False, root="best")
    objective, config = Toy(), config_of(steps=100, eval_every=2, patience=2)
    with pytest.raises(Stopped):
        run(tmp_path, config, data=DisturbedData(2 * 3, ask_to_stop), judge=Scores(objective, [1.0]), goal=goal)
    shutil.rmtree(tmp_path / "best")
    result = run(tmp_path, config, judge=Scores(objective, [5.0] * 9), goal=goal)
    assert (result["best_step"], result["steps"]) == (4, 8)


def test_patience_counts_from_what_was_better_even_if_it_could_not_be_written(tmp_path, monkeypatch):
    goal = Goal("valid/token_loss", higher_is_better=False, root="best")
    monkeypatch.setattr(checkpoint, "export", full_disk)
    config = config_of(steps=8, eval_every=2, patience=2, save_error="go_on")
    result = run(tmp_path, config, judge=Scores(Toy(), [4.0, 3.0, 2.0, 1.0]), goal=goal)
    assert (result["steps"], result["best_step"]) == (8, None)


def test_patience_ends_a_run_that_gets_worse_though_nothing_could_be_written(tmp_path, monkeypatch):
    goal = Goal("valid/token_loss", higher_is_better=False, root="best")
    monkeypatch.setattr(checkpoint, "export", full_disk)
    config = config_of(steps=20, eval_every=2, patience=2, save_error="go_on")
    result = run(tmp_path, config, judge=Scores(Toy(), [4.0, 5.0, 6.0, 7.0]), goal=goal)
    assert result["steps"] == 6


def full_disk(*_) -> None:
    raise OSError("no space left on device")


def test_of_equal_scores_the_first_is_the_best_and_no_number_never_is():
    goal = Goal("f1", higher_is_better=True, root="best")
    assert goal.better({"f1": 0.0}, None, None) and goal.better({"f1": 0.6}, 0.5, None)
    assert not goal.better({"f1": 0.5}, 0.5, None) and not goal.better({"f1": 0.4}, 0.5, None)
    assert not goal.better({"f1": math.nan}, None, None) and not goal.better({"f1": math.nan}, 0.1, None)


def test_among_equals_the_lower_loss_is_better():
    goal = Goal("f1", higher_is_better=True, root="best", among_equals="loss")
    assert goal.better({"f1": 0.0, "loss": 0.4}, 0.0, 0.5)
    assert not goal.better({"f1": 0.0, "loss": 0.5}, 0.0, 0.5)
    assert not goal.better({"f1": 0.0, "loss": math.nan}, 0.0, 0.5)
    assert not goal.better({"f1": 0.1, "loss": 0.1}, 0.2, 0.5)
    assert goal.better({"f1": 0.3, "loss": 0.9}, 0.2, 0.5)


def test_a_loss_that_is_no_number_stops_the_run_and_is_never_saved(tmp_path):
    config = config_of(lr=1e30, log_every=100, eval_every=100, save_every=4, max_grad_norm=0.0)
    said = r"^training\.lr: 3 steps in a row had a loss or gradient that is not finite .* with training\.lr=1e\+30;"
    with pytest.raises(UserError, match=said):
        run(tmp_path, config)
    assert not (tmp_path / "checkpoints").exists()


class Cusp(Toy):
    """Its loss is 0, and its gradient no number."""

    def forward(self, batch: PackedBatch) -> dict[str, torch.Tensor]:
        return {"token_loss": torch.sqrt((0 * self.bias).sum()) + 0 * self.table.sum()}


def test_weights_that_are_no_numbers_are_never_saved(tmp_path):
    with pytest.raises(UserError):
        run(tmp_path, config_of(steps=3), objective=Cusp(), judge=lambda: {"valid/token_loss": 0.0})
    assert not (tmp_path / "checkpoints").exists()


class Faulty(Toy):
    """Its loss is no number at some steps, told by a count of its calls; two calls are a step."""

    def __init__(self, *steps: int) -> None:
        super().__init__()
        self.steps, self.calls = steps, 0

    def forward(self, batch: PackedBatch) -> dict[str, torch.Tensor]:
        found = super().forward(batch)
        if self.training:
            step, self.calls = self.calls // 2 + 1, self.calls + 1
            if step in self.steps and self.calls % 2:  # the step's first micro-batch alone
                found["token_loss"] = found["token_loss"] * math.nan
        return found


def test_a_step_without_a_finite_gradient_changes_neither_weights_nor_moments(tmp_path):
    objective = Faulty(2)
    optimizer = build_optimizer(objective, config_of())
    states = []
    for step in range(3):
        did = training_step(objective, [batch_of([1, 2]), batch_of([3])], optimizer, config_of(), step, CPU)
        moments = [v.clone() for p in objective.parameters() for v in optimizer.state[p].values()]
        states.append([p.detach().clone() for p in objective.parameters()] + moments)
        assert did.skipped == (step == 1)
        assert all(bool(value.isfinite()) for value in (*did.sums.values(), did.norm))
        assert all(bool(value == 0) for value in did.counts.values()) == (step == 1)
    assert all(torch.equal(a, b) for a, b in zip(states[0], states[1], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(states[1], states[2], strict=True))


def test_skipped_steps_are_counted_and_left_out_of_the_means(tmp_path):
    log = Log()
    run(tmp_path, config_of(log_every=4), objective=Faulty(2, 3, 6), log=log)
    assert log.values["train/skipped_steps"] == {4: 2.0, 8: 1.0, 12: 0.0}
    assert all(math.isfinite(value) for value in log.values["train/loss"].values())


def test_three_steps_in_a_row_end_the_run_with_the_batch_written_out(tmp_path):
    with pytest.raises(UserError, match="up to step 8, with"):
        run(tmp_path, config_of(log_every=2), objective=Faulty(2, 3, 6, 7, 8))
    assert checkpoints(tmp_path) == [4]
    written = json.loads((tmp_path / "skipped_batch.json").read_text())
    stream = ToyData()(Position())
    batches = [next(stream)[0] for _ in range(16)]
    assert written["token_ids"] == [batch.to_padded(fill=-1).tolist() for batch in batches[14:]]
    assert (written["step"], written["position"]) == (8, {"epoch": 2, "block": 0, "micro_batch": 2, "micro_batches": 3})


def test_two_in_a_row_across_a_stop_and_one_after_it_are_three(tmp_path):
    data = DisturbedData(2 * 3 + 2, ask_to_stop)
    with pytest.raises(Stopped):
        run(tmp_path, config_of(), data=data, objective=Faulty(3, 4))
    with pytest.raises(UserError, match="3 steps in a row"):
        run(tmp_path, config_of(), objective=Faulty(1))


# Stopping, crashing, resuming


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[dict[str, bytes], dict, dict[str, dict]]:
    """An undisturbed run of 12 steps: its files, its result and what it logged."""
    output, log = tmp_path_factory.mktemp("whole"), Log()
    result = run(output, config_of(steps=12), log=log)
    return contents(output), result, log.without_speed


@pytest.mark.parametrize("step", range(1, 12))
def test_a_run_that_is_stopped_at_any_step_ends_as_one_that_was_not(step, whole, tmp_path, capsys):
    log = Log()
    with pytest.raises(Stopped, match=f"^stopped at step {step}; the same command continues from there.$"):
        run(tmp_path, config_of(), data=DisturbedData(2 * step, ask_to_stop), log=log)
    assert checkpoints(tmp_path)[-1] == step
    assert not (tmp_path / "model.safetensors").exists()
    data = ToyData()
    result = run(tmp_path, config_of(), data=data, log=log)
    assert f"resuming from {tmp_path}/checkpoints/step-{step:08d}" in capsys.readouterr().out
    assert len(data.begun) == 1 and data.epochs(data.begun[0]) == pytest.approx(step / 3)
    assert (contents(tmp_path), result, log.without_speed) == whole


@pytest.mark.parametrize("micro_batch", [1, 2, 7, 8, 9, 10, 16, 24])
def test_a_run_that_crashes_anywhere_ends_as_one_that_did_not(micro_batch, whole, tmp_path):
    log = Log()
    with pytest.raises(Killed):
        run(tmp_path, config_of(), data=DisturbedData(micro_batch, crash), log=log)
    result = run(tmp_path, config_of(), log=log)
    assert (contents(tmp_path), result, log.without_speed) == whole


def test_a_crash_in_the_middle_of_a_save_loses_nothing_but_steps(whole, tmp_path, monkeypatch):
    def torn(folder: Path) -> None:
        (folder / "manifest.json").write_text("{")
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "_write_manifest", torn)
        with pytest.raises(Killed):
            run(tmp_path, config_of())
    result = run(tmp_path, config_of())
    assert (contents(tmp_path), result) == whole[:2]


def test_from_a_damaged_checkpoint_it_falls_back_to_the_older_and_ends_the_same(whole, tmp_path, capsys):
    with pytest.raises(Killed):
        run(tmp_path, config_of(), data=DisturbedData(20, crash))  # in step 10; saved are 4 and 8
    file = tmp_path / "checkpoints" / "step-00000008" / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    log = Log()
    result = run(tmp_path, config_of(), log=log)
    said = capsys.readouterr()
    assert "step-00000008: damaged (not what was written: optimizer.safetensors)" in said.err
    assert "resuming from" in said.out and "step-00000004" in said.out
    assert (contents(tmp_path), result) == whole[:2]
    assert list(log.values["train/loss"]) == list(range(5, 13))


SAVING = "SIGTERM: saving after this step, then stopping."
ENDING = "SIGTERM: the last step is done; the run ends as usual, after evaluating and saving."


def test_a_request_to_stop_in_the_last_step_comes_too_late_and_the_run_says_so(tmp_path, capfd):
    assert run(tmp_path, config_of(), data=DisturbedData(24, ask_to_stop))["steps"] == 12
    assert [line for line in capfd.readouterr().err.splitlines() if "SIGTERM" in line] == [SAVING, ENDING]


@pytest.mark.parametrize(("patience", "steps"), [(None, 12), (1, 8)])
def test_a_request_to_stop_in_the_last_evaluation_is_told_that_the_run_ends(patience, steps, tmp_path, capfd):
    """With patience the run cannot know before the evaluation that it is the last."""
    judged = []

    def judge() -> dict[str, float]:
        judged.append(1)
        if len(judged) == steps // 4:
            ask_to_stop()
        return {"valid/token_loss": 1.0}

    assert run(tmp_path, config_of(patience=patience), judge=judge)["steps"] == steps
    said = [line for line in capfd.readouterr().err.splitlines() if "SIGTERM" in line]
    assert said == ([ENDING] if patience is None else [SAVING, ENDING])


def test_a_request_to_stop_in_an_evaluation_on_the_way_stops_after_it(tmp_path, capfd):
    def judge() -> dict[str, float]:
        ask_to_stop()
        return {"valid/token_loss": 1.0}

    with pytest.raises(Stopped, match=r"^stopped at step 4; "):
        run(tmp_path, config_of(), judge=judge)
    assert [line for line in capfd.readouterr().err.splitlines() if "SIGTERM" in line] == [SAVING]


def test_fewer_steps_than_were_taken_are_judged_and_logged(tmp_path):
    run(tmp_path, config_of(save_every=6))
    log = Log()
    found = run(tmp_path, config_of(steps=6, save_every=6, eval_every=5), log=log)
    assert found["steps"] == 12 and log.values["valid/token_loss"] == {12: found["valid/token_loss"]}


def test_a_run_that_ended_before_it_could_say_so_is_judged_and_left_as_it_is(whole, tmp_path):
    run(tmp_path, config_of())
    data = ToyData()
    assert run(tmp_path, config_of(), data=data) == whole[1]
    assert contents(tmp_path) == whole[0]


def test_a_crash_between_two_lines_changes_no_line(tmp_path):
    config = config_of(log_every=3)
    undisturbed, log = Log(), Log()
    run(tmp_path / "whole", config, log=undisturbed)
    with pytest.raises(Killed):
        run(tmp_path / "cut", config, data=DisturbedData(15, crash), log=log)
    run(tmp_path / "cut", config, log=log)
    assert log.without_speed == undisturbed.without_speed


def test_a_stop_between_two_lines_changes_no_line(tmp_path):
    config = config_of(log_every=3)
    undisturbed, log = Log(), Log()
    run(tmp_path / "whole", config, log=undisturbed)
    with pytest.raises(Stopped):
        run(tmp_path / "cut", config, data=DisturbedData(14, ask_to_stop), log=log)
    run(tmp_path / "cut", config, log=log)
    assert log.without_speed == undisturbed.without_speed


# A budget in minutes


class Clock:
    """Time that passes only where it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


class TimedData(ToyData):
    """A micro-batch takes a quarter of a second: a step takes half of one."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.begun_at = clock, []

    def __call__(self, position: Position):
        self.begun_at.append(self.clock.now)
        for item in super().__call__(position):
            self.clock.now += 0.25
            yield item


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(loop.time, "perf_counter", clock.perf_counter)
    return clock


def judge_in_two_seconds(clock: Clock):
    def judge() -> dict[str, float]:
        clock.now += 2.0
        return {"valid/token_loss": 1.0}

    return judge


def state_of(output: Path) -> dict:
    return json.loads((output / "checkpoints" / f"step-{checkpoints(output)[-1]:08d}" / "state.json").read_text())


class StoppedData(TimedData):
    """Asks to stop in the third step."""

    def __call__(self, position: Position):
        for number, item in enumerate(super().__call__(position), 1):
            if number == 6:
                ask_to_stop()
            yield item


def test_seconds_count_what_was_done_before_a_stop_and_not_the_time_until_it_went_on(clock, tmp_path):
    log, config = Log(), config_of(log_every=100, eval_every=6)
    with pytest.raises(Stopped):
        run(tmp_path, config, data=StoppedData(clock), log=log, judge=judge_in_two_seconds(clock))
    clock.now += 1000
    run(tmp_path, config, data=TimedData(clock), log=log, judge=judge_in_two_seconds(clock))
    # A step takes half a second; there is a line where it is saved, every fourth, and none where it was stopped.
    assert log.values["speed/seconds"] == {4: 2.0, 8: 2.0, 12: 2.0}
    assert log.values["speed/evaluation_seconds"] == {6: 2.0, 12: 2.0}


def test_minutes_become_the_tokens_that_training_and_evaluation_have_time_for(clock, tmp_path):
    data = TimedData(clock)
    config = config_of(minutes=1, eval_every=10, save_every=1000)
    result = run(tmp_path, config, data=data, judge=judge_in_two_seconds(clock))
    # The pilot's first step warms up, the next three are measured; a step then takes 0.5 s, and a tenth of an
    # evaluation 0.2 s; the last evaluation takes 2 s of the minute.
    stream = ToyData()(Position())
    sizes = [sum(next(stream)[0].num_tokens for _ in range(2)) for _ in range(4)]
    expected = int((60 - 2) / (0.5 + 0.2) * sum(sizes[1:]) / 3)
    assert state_of(tmp_path)["budget"] == {"unit": "tokens", "amount": expected}
    assert result["tokens"] >= expected
    assert clock.now - data.begun_at[1] == pytest.approx(60, abs=8)  # tokens of a step vary


def test_the_pilot_leaves_no_trace(clock, tmp_path):
    data, log, again = TimedData(clock), Log(), Log()
    run(tmp_path / "minutes", config_of(minutes=0.1, warmup=0.0), data=data, log=log)
    assert data.begun == [Position(), Position()]  # the pilot, and the run, from the start again
    amount = state_of(tmp_path / "minutes")["budget"]["amount"]
    run(tmp_path / "tokens", config_of(tokens=amount, warmup=0.0), data=TimedData(clock), log=again)
    assert contents(tmp_path / "minutes") == contents(tmp_path / "tokens")
    assert log.without_speed == again.without_speed
    assert log.values["train/loss"].keys() == set(range(1, len(log.values["train/loss"]) + 1))


def test_a_resumed_run_keeps_its_tokens_and_flies_no_second_pilot(clock, tmp_path):
    config, data = config_of(minutes=0.2), TimedData(clock)

    def judge() -> dict[str, float]:
        if len(data.begun) == 2:  # not in the pilot
            ask_to_stop()
        return {"valid/token_loss": 1.0}

    with pytest.raises(Stopped, match="stopped at step 4"):
        run(tmp_path, config, data=data, judge=judge)
    budget = state_of(tmp_path)["budget"]
    slower = TimedData(clock)
    run(tmp_path, config, data=slower)
    assert state_of(tmp_path)["budget"] == budget
    assert len(slower.begun) == 1 and slower.begun[0] != Position()


def test_a_minute_too_short_for_anything_still_takes_a_step(clock, tmp_path):
    config = config_of(minutes=0.01)
    assert run(tmp_path, config, data=TimedData(clock), judge=judge_in_two_seconds(clock))["steps"] >= 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "training.micro_batch_size: 2 sequences at once do not fit in the memory of cpu;"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "training.micro_batch_size: 2 sequences"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "training.micro_batch_size: 2 sequences"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "training.workers: a process that"),
    ],
)
def test_what_the_machine_lacks_names_the_setting_that_asks_for_less(error, said, tmp_path):
    def fail() -> None:
        raise error

    with pytest.raises(UserError, match=re.escape(said)):
        run(tmp_path / "steps", config_of(), data=DisturbedData(3, fail))
    with pytest.raises(UserError, match=re.escape(said)):
        run(tmp_path / "minutes", config_of(minutes=1.0), data=DisturbedData(3, fail))  # in the pilot


def test_an_error_nobody_can_do_anything_about_stays_what_it_is(tmp_path):
    def fail() -> None:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        run(tmp_path, config_of(), data=DisturbedData(3, fail))
