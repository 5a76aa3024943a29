"""A run's report in words: how its text is sampled, and its results."""

import shlex
from pathlib import Path

import numpy as np

from bert.counting import count_of
from bert.pretrained import fill_mask
from bert.serving.served import Served
from bert.training.tracking import TrackingConfig
from pretrain.block import Block
from pretrain.config import PretrainConfig
from pretrain.data import Recipe, Sampler
from pretrain.inputs import INPUTS
from pretrain.masking import MASKING
from pretrain.masking.strategy import Tokens
from pretrain.masking.units import words as words_of
from pretrain.objectives.objective import PretrainObjective
from pretrain.text import TextToLearn
from pretrain.validation import LEARNED, below_unigram

MUCH_CUT = 0.2
"""Share of truncated tokens above which a run warns."""

MUCH_LEFT = 0.2
"""Share of sentences that are in no example, above which a run warns."""

ONE_PIECE, MANY_PIECES = 1.05, 6.0
"""Mean tokens in a word below which masking whole words is much the same as masking tokens, and above which a word is
rather a phrase of a language without spaces."""

AT_START = "start_"
"""What the name of a metric begins with that is of the model which init names."""

SMALLER = 0.9
"""Share of training.batch_size below which a run says how many sequences its steps really have."""


def sampling_in_words(block: Block, sampler: Sampler) -> str:
    """What sampling makes of the first block of documents, with warnings of what is probably unintended."""
    tally = block.tally
    sequences, sentences = tally["sequences"], max(1, tally["sentences"])
    cut = tally["tokens_truncated"] / (tally["tokens"] + tally["tokens_truncated"])
    text = block.sequences
    words = words_of(Tokens(text.maskable, text.word_starts, text.cu_seqlens)).length
    pieces = float(words.mean()) if len(words) else 1.0
    said = [
        f"{tally['documents']:,} documents (of {len(sampler.documents):,}) give {sequences:,} sequences of "
        f"{tally['tokens'] / sequences:.0f} tokens on average",
        f"{pieces:.2f} tokens per word",
        f"{cut:.1%} of the sequences' tokens are cut off, to fit data.max_length={sampler.recipe.data.max_length}",
        f"{tally['sentences_left_over'] / sentences:.1%} of the sentences are in no example",
    ]
    for name, what in (("pairs_random", "have a random B"), ("pairs_swapped", "are swapped")):
        if name in tally:
            said.append(f"{tally[name] / sequences:.1%} of the pairs {what}")
    if tally.get("pairs_left_out"):
        said.append(f"{count_of(tally['pairs_left_out'], 'pair')} left out, for want of another B")
    if sampler.recipe.shape is not None:
        said.append(f"each micro-batch is {sampler.recipe.shape.in_words()}")
        fillers = tally["filler_tokens"] / (tally["tokens"] + tally["filler_tokens"])
        said.append(f"{fillers:.1%} of the tokens are fillers, which count for nothing")
    hardly_meant = [
        *_lost_text(cut, tally["sentences_left_over"] / sentences, sampler.recipe),
        *_odd_words(pieces, sampler.recipe.masking.strategy),
        *_small_steps(sequences / len(block), sampler.recipe),
    ]
    over = "the whole first epoch" if sampler.num_blocks == 1 else f"the first of {sampler.num_blocks:,} blocks"
    line = f"sampling, over {over} of text: {'; '.join(said)}"
    return "\n".join([line, *(f"WARNING: {what}" for what in hardly_meant)])


def _lost_text(cut: float, left_over: float, recipe: Recipe) -> list[str]:
    said = []
    if cut > MUCH_CUT:
        split = "" if recipe.data.splits_sentences else "; data.split_sentences=true looks for sentences within lines"
        longer = f"many sentences are longer than data.max_length={recipe.data.max_length}"
        said.append(f"{cut:.0%} of the sequences' tokens are cut off: {longer}{split}")
    if left_over > MUCH_LEFT and INPUTS[recipe.sentence.input].segments == 2 and recipe.sentence.remainder == "reuse":
        whole = "sentence.objective=none with sentence.input=doc_sentences uses documents of one sentence too"
        said.append(
            f"{left_over:.0%} of the sentences are in no example, since a pair needs two of a document; {whole}"
        )
    return said


def _odd_words(pieces: float, strategy: str) -> list[str]:
    if MASKING[strategy].longest_words is None:
        return []
    if pieces < ONE_PIECE and strategy == "whole_word":
        return ["nearly every word is one token: masking.strategy=whole_word does the same as token"]
    if pieces > MANY_PIECES:
        many = f"a word has {pieces:.1f} tokens, as in text without spaces, and is masked as one"
        return [f"{many} (masking.strategy={strategy}); token masks single tokens"]
    return []


def _small_steps(micro_batch_size: float, recipe: Recipe) -> list[str]:
    realised = micro_batch_size * recipe.micro_batches
    if recipe.shape is not None or realised >= SMALLER * recipe.batch_size:
        return []
    asked = f"training.batch_size={recipe.batch_size:,}"
    return [f"{asked}, but a step has {realised:,.0f} sequences: a block of text gives no more"]


def print_report(
    config: PretrainConfig,
    result: dict[str, float],
    objective: PretrainObjective,
    text: TextToLearn,
    served: Served | None,
) -> None:
    """Print a table of results, a few masked sentences if the model fills masks, and where to look."""
    shown = [name for name in result if name.startswith("valid/")] + ["steps", "tokens", "epochs"]
    width = max(map(len, shown))
    print("\n" + "\n".join(f"  {name:<{width}}  {result[name]:,.4g}" for name in shown))
    print(_against_start(result, objective.goal), end="")
    below = below_unigram(result)
    where = "below" if below >= 0 else "above"
    print(f"\n  {abs(below):.2f} nats {where} what unigram frequencies alone would reach")
    if below < LEARNED:
        print(f"  With less than {LEARNED} below it has learned little more than these: train it for longer.")
    fills_masks = served is not None and served.script == "fill_mask"
    if fills_masks:
        _show_filled(objective.cpu().eval(), text)
    print(f"\nmodel and results:  {config.output}")
    if fills_masks:
        text_with_mask = f'"... {objective.tokenizer.mask_token} ..."'
        folder = shlex.quote(config.output)
        print(f"try it:             python run.py fill-mask --checkpoint {folder} --text {text_with_mask}")
    if config.tracking.uri != "none":
        ours = config.tracking.uri == TrackingConfig.uri and Path("Makefile").is_file()
        see = "make ui" if ours else f"mlflow ui --backend-store-uri {config.tracking.uri}"
        print(f"see the run:        {see}")


def _against_start(result: dict[str, float], metric: str) -> str:
    """How far a run has come from the model it started with; nothing where it started from random weights."""
    before, after = result.get(f"{AT_START}{metric}"), result[metric]
    if before is None:
        return ""
    said = f"\n  {metric.removeprefix('valid/')}: {before:.3f} at the start, {after:.3f} at the end\n"
    worse = "  WARNING: worse than the model it started from; a lower training.lr may help\n"
    return said + (worse if after > before else "")


def _show_filled(objective: PretrainObjective, text: TextToLearn, sentences: int = 4) -> None:
    """Mask one whole-word token in a few validation sentences, and show what the model predicts there."""
    rng, shown, special = np.random.default_rng(0), 0, {*text.tokenizer.special_ids.tolist()}
    longest = min(40, objective.bert.config.max_position_embeddings - 2)
    print()
    for document in np.asarray(text.valid_documents[:200]):
        first = text.valid_source.sentence_offsets[document]
        ids, starts = text.valid_source.read(np.array([first]), np.array([first + 1]))
        alone = np.flatnonzero(starts & np.append(starts[1:], True))  # words of one token, but not punctuation
        alone = [p for p in alone if int(ids[p]) not in special and len(text.tokenizer.token(int(ids[p]))) > 1]
        if not 12 <= len(ids) <= longest or len(alone) < 4:
            continue
        place = int(rng.choice(alone))
        masked = text.tokenizer.decode([*ids[:place], text.tokenizer.mask_id, *ids[place + 1 :]])
        best = fill_mask(objective, masked, 3)[0]
        said = ", ".join(f"{candidate.token} {candidate.probability:.0%}" for candidate in best)
        print(f"  {masked}\n      {text.tokenizer.token(int(ids[place]))} was masked; the model says {said}")
        shown += 1
        if shown == sentences:
            return
