"""The loop's options, whatever the task."""

from dataclasses import dataclass
from typing import Literal

from bert.attention import BACKENDS
from bert.training.schedule import SCHEDULES

FROZEN = ("nothing", "embeddings", "encoder")
BUDGETS = ("steps", "epochs", "tokens", "minutes")
BUDGET_OPTIONS = {f"training.{name}": () for name in BUDGETS}
BATCH_OPTIONS = {f"training.batch_{unit}": (f"training.micro_batch_{unit}",) for unit in ("size", "tokens")}
"""Options of which one is given, each with those that belong only to it."""
LARGEST_SEED = 2**64 - 1
"""What a generator keyed by it takes (Salmon et al. 2011: Philox)."""


@dataclass(frozen=True)
class TrainingConfig:
    """How long, how fast and on what."""

    steps: int | None = None
    """The budget, in optimizer steps. Give one of steps, epochs, tokens and minutes; one on the command line replaces
    the file's."""

    epochs: float | None = None
    """The budget, in passes over the training documents."""

    tokens: int | None = None
    """The budget, in tokens read (there is no padding to count)."""

    minutes: float | None = None
    """The budget, in minutes of training and evaluation; converted to tokens once, after a short pilot."""

    batch_size: int | None = 32
    """Sequences in an optimizer step, at most: a block of documents is split into steps of equal size, so that none is
    a small remainder. By default 32. Or give batch_tokens; either one on the command line replaces the file's other."""

    micro_batch_size: int | None = None
    """Sequences on the device at once; gradients are accumulated over a step's micro-batches. Lower it when memory runs
    out; by default the whole batch. Masks are drawn per micro-batch, so it decides which ones."""

    batch_tokens: int | None = None
    """Pretraining: tokens in an optimizer step, in place of batch_size. Every micro-batch is then filled up to one
    shape with tokens that count for nothing: about 1% where micro-batches and the text are large, more where either is
    small; the run says how many. For a GPU, and for compile."""

    micro_batch_tokens: int | None = None
    """Tokens on the device at once, in place of micro_batch_size; at least 2 x data.max_length."""

    lr: float | None = 5e-4
    """Peak learning rate. By default 1e-3 in pretraining, 5e-5 in continued pretraining (init), and 1e-4 in
    fine-tuning."""

    warmup: float = 0.1
    """Share of the budget over which the learning rate rises to its peak."""

    schedule: Literal[*SCHEDULES] = "linear"
    """How the learning rate falls after the warm-up."""

    weight_decay: float = 0.01
    """Decoupled decay of matrices; biases and norms have none."""

    adam_beta1: float = 0.9
    """Decay of AdamW's first moment."""

    adam_beta2: float = 0.999
    """Decay of AdamW's second moment."""

    adam_epsilon: float = 1e-8
    """AdamW's epsilon."""

    layer_decay: float = 1.0
    """Each layer's learning rate is this share of that of the layer above; the embeddings learn slowest (Sun et al.
    2019, section 5.3.3: 0.95). 1: the same for all."""

    freeze: int | Literal[*FROZEN] = "nothing"
    """What is frozen: the embeddings; those and this many of the lowest layers (a number); the whole encoder. It gets
    no gradient and no dropout. To use a pretrained model as features, or to add to one."""

    max_grad_norm: float = 1.0
    """The gradient is clipped to this norm; 0 leaves it as it is."""

    seed: int = 0
    """Decides initial weights, order, pairs, masks and dropout."""

    log_every: int = 20
    """Steps between two lines of training metrics."""

    eval_every: int | None = None
    """Steps between two evaluations; there is always one at the end. By default 500 in pretraining, and an epoch in
    fine-tuning."""

    patience: int | None = None
    """Stop early after this many evaluations in a row without improvement; by default the budget decides."""

    eval_sequences: int = 2048
    """Sequences of each validation set, at most."""

    save_every: int = 500
    """Steps between two checkpoints; there is always one at the end."""

    keep_checkpoints: int = 2
    """How many checkpoints to keep; older ones are removed."""

    save_error: Literal["stop", "go_on"] = "stop"
    """Whether a checkpoint that cannot be written (a full disk) ends the run, or is skipped with a warning; one that a
    stop was to save ends it in any case."""

    workers: int | None = None
    """Pretraining: processes that prepare batches; by default 2 for a GPU and 0 on a CPU. Changes no batch."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes the GPU where there is one."""

    threads: int | None = None
    """CPU threads, of each rank under torchrun; by default PyTorch's choice. Runs repeat bit for bit with the same
    number."""

    processes: int | None = None
    """On a CPU: processes among which the threads, and each micro-batch's sequences, are divided; they wait for each
    other once a step, threads after every operation. By default 2 where that is possible (Linux without a GPU, two
    threads that are not bound to cores, one rank, batch_size). Small models may gain from more, on more cores; each
    takes memory for two gradients. Changes no batch, but dropout draws other numbers."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 on a GPU, for products and hidden states, while weights and moments stay fp32; fp32 on a CPU. There,
    bf16 is faster on AMD's with AVX512-BF16 and on Intel's with AMX; a line says where it is not. fp32 is true fp32 on
    a GPU too, not TF32."""

    attention: Literal[*BACKENDS] = "sdpa"
    """sdpa: PyTorch's fused attention, over padded rows. eager: plain matrix products, the reference. varlen:
    attention without any padding, the fastest on a GPU; in bf16, and without attention dropout."""

    compile: bool = False
    """Pretraining: compile embeddings, layers and the vocabulary loss (torch.compile). Needs batch_tokens, whose shapes
    never change. Worth it on a GPU for runs of more than a few minutes; compiling takes half a minute, and fuses norms,
    GELU, dropout and softmax into few kernels. On a CPU steps are slower."""

    gradient_checkpointing: bool = False
    """Recompute each layer in the backward pass instead of keeping its activations: less memory, more time, the same
    result. For more layers or longer sequences than fit otherwise."""

    profile: bool = False
    """Leave a trace of five steps and the ten costliest operations in the output's folder `profile`; where several
    processes share a step, those of the run's own."""

    deterministic: bool = False
    """On a GPU: use only kernels that repeat bit for bit; slower. A CPU always repeats."""


def micro_batches(config: TrainingConfig) -> int:
    """Micro-batches in a step: as few as micro_batch_size, or micro_batch_tokens, allows."""
    whole, at_once = _step_and_part(config)
    return -(-whole // (at_once or whole))


def micro_batch_size(config: TrainingConfig) -> int:
    """Sequences in a step's largest micro-batch; with batch_tokens, tokens in each, fillers included.

    What remains where they are shared out evenly makes some micro-batches one sequence larger; tokens are left out.
    """
    whole, parts = _step_and_part(config)[0], micro_batches(config)
    return -(-whole // parts) if config.batch_tokens is None else whole // parts


def _step_and_part(config: TrainingConfig) -> tuple[int, int | None]:
    if config.batch_tokens is not None:
        return config.batch_tokens, config.micro_batch_tokens
    return config.batch_size, config.micro_batch_size


def check(config: TrainingConfig) -> list[str]:
    """Everything that is wrong with the values, one line each."""
    given = [name for name in BUDGETS if getattr(config, name) is not None]
    faults = []
    if len(given) != 1:
        said = ", ".join(f"training.{name}={getattr(config, name)}" for name in given) or "none"
        faults.append(f"training: give one budget: steps, epochs, tokens or minutes; {said} given.")
    positive = ("batch_size", "lr", "adam_epsilon", "log_every", "eval_every", "eval_sequences", "save_every")
    positive += ("keep_checkpoints", "micro_batch_size", "threads", "processes", "patience", "layer_decay", *BUDGETS)
    positive += ("batch_tokens", "micro_batch_tokens")
    faults += [
        f"training.{name}: {getattr(config, name)}, but it must be above 0."
        for name in positive
        if getattr(config, name) is not None and not getattr(config, name) > 0
    ]
    faults += _batch_faults(config)
    faults += [
        f"training.{name}: {getattr(config, name)}, but it must be at least 0 and below 1."
        for name in ("warmup", "adam_beta1", "adam_beta2")
        if not 0 <= getattr(config, name) < 1
    ]
    if config.schedule == "inverse_sqrt" and config.warmup == 0:
        faults.append("training.warmup: 0, but training.schedule=inverse_sqrt falls from its end; it must be above 0.")
    if config.layer_decay > 1:
        faults.append(f"training.layer_decay: {config.layer_decay}, but it must be at most 1.")
    faults += [
        f"training.{name}: {getattr(config, name)}, but it must be at least 0."
        for name in ("weight_decay", "max_grad_norm", "workers")
        if getattr(config, name) is not None and not getattr(config, name) >= 0
    ]
    return faults + seed_faults("training.seed", [config.seed])


def seed_faults(name: str, seeds: list[int]) -> list[str]:
    """What is wrong with the seeds that an option of this name has, a line for each."""
    return [
        f"{name}: {seed}, but it must be at least 0 and at most {LARGEST_SEED} (2**64 - 1)."
        for seed in seeds
        if not 0 <= seed <= LARGEST_SEED
    ]


def _batch_faults(config: TrainingConfig) -> list[str]:
    """What is wrong with how a step is measured and split."""
    faults = []
    if (config.batch_size is None) == (config.batch_tokens is None):
        said = f"training.batch_size={config.batch_size}, training.batch_tokens={config.batch_tokens}"
        faults.append(f"training: give one of batch_size and batch_tokens; {said} given.")
    for unit, other in (("size", "tokens"), ("tokens", "size")):
        whole, part = (getattr(config, f"{name}_{unit}") for name in ("batch", "micro_batch"))
        if part is not None and whole is None:
            faults.append(
                f"training.micro_batch_{unit}: {part} was given, but it belongs to batch_{unit}; "
                f"with batch_{other}, give micro_batch_{other}."
            )
        elif part is not None and part > whole:
            faults.append(f"training.micro_batch_{unit}: {part}, but it must be at most training.batch_{unit}={whole}.")
    if (config.processes or 1) > 1 and config.batch_tokens is not None:
        faults.append(
            f"training.processes: {config.processes}, but with training.batch_tokens each micro-batch has one shape "
            f"and stays whole; give batch_size, or leave processes out."
        )
    if config.compile and config.batch_tokens is None:
        faults.append(
            "training.compile: needs training.batch_tokens; with batch_size, shapes differ from step to step."
        )
    return faults
