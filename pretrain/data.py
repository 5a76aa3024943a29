"""From documents to blocks of micro-batches.

A block is built from its place (epoch, number) and the configuration alone, so any worker can build it.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from bert.tokenizer import Tokenizer
from pretrain import examples as examples_
from pretrain import packing
from pretrain.block import Block
from pretrain.config import DataConfig, MaskingConfig, SentenceConfig
from pretrain.examples import Cutting, Sentences, Sequences, Text
from pretrain.inputs import INPUTS
from pretrain.masking import MASKING
from pretrain.masking.replace import corrupt
from pretrain.masking.strategy import Tokens
from pretrain.negatives import NEGATIVES
from pretrain.negatives.negatives import NegativeSource
from pretrain.packing import Shape
from pretrain.randomness import MASKS, ORDER, PAIRS, Permutation, generator
from pretrain.sentence import SENTENCE
from pretrain.token_source import TokenSource

BLOCK_BYTES = 4 << 20
"""Text in a block: thousands of sequences, enough to shuffle well, built in a fraction of a second."""

FILLED_BLOCK_BYTES = 4 * BLOCK_BYTES
"""The same where micro-batches have a shape: about half a micro-batch of each block is lost to rounding."""

_STEPS = 8
"""Steps that a block has text for at least: each is smaller than training.batch_size by up to the share of one."""

_BYTES_PER_TOKEN = 4
"""About, of text in most languages."""

_MOST_BYTES = 64 << 20
"""Text in a block at most, whatever the batch: a block is held in memory, and built anew by a resumed run."""


@dataclass(frozen=True)
class Recipe:
    """How text becomes batches: all that determines which ids a run sees, besides the text."""

    data: DataConfig
    sentence: SentenceConfig
    masking: MaskingConfig
    batch_size: int
    """Sequences in a step at most."""

    seed: int
    micro_batches: int = 1
    """How many each step is split into."""

    epochs: float = math.inf
    """About how many the run will take: masking.rate_end is reached after them."""

    shape: Shape | None = None
    """What every micro-batch is filled up to, in place of batch_size."""


class Sampler:
    """Builds any block of any epoch.

    Args:
        source: the tokens.
        documents: numbers of the documents to draw from, (D,).
        tokenizer: for the special and the ordinary ids.
        recipe: how text becomes batches.

    Attributes:
        num_blocks: in an epoch.
    """

    def __init__(
        self,
        source: TokenSource,
        documents: np.ndarray,
        tokenizer: Tokenizer,
        recipe: Recipe,
    ) -> None:
        self.source, self.documents, self.recipe = source, documents, recipe
        self.input, self.sentence = INPUTS[recipe.sentence.input], SENTENCE[recipe.sentence.objective]
        self.choose = MASKING[recipe.masking.strategy].choose
        self.budget = recipe.data.max_length - self.input.special_tokens
        self.cutting = Cutting(
            input=self.input,
            budget=self.budget,
            short_seq_prob=recipe.sentence.short_seq_prob,
            label_share=recipe.sentence.random_share if self.sentence.labelled else 0.0,
            label_one_replaces_b=self.sentence.replaces_b,
            reuse_remainder=recipe.sentence.remainder == "reuse",
        )
        self.pool = NegativeSource(source, documents, NEGATIVES[recipe.sentence.negatives], self.cutting)
        self.cls_id, self.sep_id = tokenizer.cls_id, tokenizer.sep_id
        self.mask_id, self.unk_id = tokenizer.mask_id, tokenizer.unk_id
        self.ordinary_ids = tokenizer.ordinary_ids
        self.special = np.zeros(tokenizer.vocab_size, bool)
        self.special[tokenizer.special_ids] = True
        self.num_blocks = -(-len(documents) // max(1, round(_block_bytes(recipe) / source.mean_document_bytes)))

    def block(self, epoch: int, number: int) -> Block:
        """Build one block: order, pairs and masks, each from its own generator."""
        recipe = self.recipe
        repeated = epoch % recipe.data.copies if recipe.data.copies else epoch
        sequences, cuts, tally = self._sequences(repeated, number)
        if recipe.shape is not None:
            tally["filler_tokens"] = (len(cuts) - 1) * recipe.shape.tokens - tally["tokens"]
        rates = self.rates(epoch, number, len(cuts) - 1)
        seen, masked, units = self._mask(sequences, cuts, rates, repeated if recipe.masking.static else epoch, number)
        return Block(
            sequences=replace(sequences, ids=seen),
            cuts=cuts,
            masked=masked,
            units=units,
            masked_labels=sequences.ids[masked],
            max_seqlen=recipe.data.max_length,
            labelled=self.sentence.labelled,
            tally=tally,
            shape=recipe.shape,
        )

    def _cuts(self, lengths: np.ndarray) -> np.ndarray:
        """Where micro-batches start, and the number of sequences last; the last step is no small remainder."""
        recipe, size = self.recipe, len(lengths)
        if recipe.shape is not None:
            return packing.cut(lengths, recipe.shape)
        count = -(-size // recipe.batch_size) * recipe.micro_batches
        if count > size:  # too few for whole steps, which then run on into the next block
            count = -(-size // max(1, recipe.batch_size // recipe.micro_batches))
        return np.arange(count + 1) * size // max(1, count)  # sizes of steps, and of their parts, differ by at most one

    def rates(self, epoch: int, number: int, micro_batches: int) -> np.ndarray:
        """Share of the maskable tokens to predict in each micro-batch of a block, (micro_batches,)."""
        masking = self.recipe.masking
        end = masking.rate if masking.rate_end is None else masking.rate_end
        within = (np.arange(micro_batches) + 0.5) / max(1, micro_batches)
        done = np.minimum(1.0, (epoch + (number + within) / self.num_blocks) / self.recipe.epochs)
        return masking.rate + done * (end - masking.rate)

    def _sequences(self, epoch: int, number: int) -> tuple[Sequences, np.ndarray, dict[str, int]]:
        """The block's sequences, where its micro-batches start, and counts of what became of its text."""
        seed, options = self.recipe.seed, self.recipe.sentence
        size = len(self.documents)  # spread evenly, so that the last block is no small remainder
        places = np.arange(number * size // self.num_blocks, (number + 1) * size // self.num_blocks)
        documents = np.asarray(self.documents[Permutation(size, seed, epoch)(places)])
        rng = generator(seed, PAIRS, epoch, number)
        sentences = Sentences.of(self.source, documents)
        text = Text(*self.source.read(*self.source.sentences_of(documents)))
        if self.input.crosses_documents:
            sentences, text = self._joined(sentences, text)
        examples, tally = examples_.cut(sentences, self.cutting, rng)
        examples, text, of_sentence = self.sentence.arrange(examples, text, self.pool, rng)
        examples, of_truncation = examples_.truncate(examples, self.budget, options.truncation, rng)
        examples = examples.take(generator(seed, ORDER, epoch, number).permutation(len(examples)))
        if self.input.crosses_documents:  # the final [SEP] also stands for one between documents
            ends = text.ids[examples.a_start + examples.a_length - 1] == self.sep_id
            examples = replace(examples, a_length=examples.a_length - ends)
        lengths = examples.a_length + examples.b_length + self.input.special_tokens
        cuts = self._cuts(lengths)
        # Longest first in each micro-batch: attention then groups sequences of similar length, with little padding.
        examples = examples.take(np.lexsort((-lengths, np.repeat(np.arange(len(cuts) - 1), np.diff(cuts)))))
        sequences = examples_.lay_out(examples, text, self.input.segments, self.cls_id, self.sep_id, self.special)
        sizes = {"documents": len(places), "sequences": len(examples), "tokens": len(sequences.ids)}
        return sequences, cuts, sizes | tally | of_sentence | of_truncation

    def _joined(self, sentences: Sentences, text: Text) -> tuple[Sentences, Text]:
        """The block as one document, with a [SEP] after each of its documents, as a token of the last sentence."""
        with_text = sentences.per_document > 0
        last = np.cumsum(sentences.per_document[with_text]) - 1  # each document's last sentence
        ends = np.cumsum(sentences.counts)[last]
        text = Text(np.insert(text.ids, ends, self.sep_id), np.insert(text.word_starts, ends, True))
        counts = sentences.counts.copy()
        counts[last] += 1
        one = sentences.documents[with_text][:1]
        return Sentences(counts, sentences.numbers, np.array([len(counts)]), one), text

    def _mask(
        self, sequences: Sequences, cuts: np.ndarray, rates: np.ndarray, epoch: int, number: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The ids as the model sees them, the positions to predict, and the unit of each, numbered through the block.

        Each micro-batch is masked by its own generator, at its own rate.
        """
        masking, seen, units_before = self.recipe.masking, sequences.ids.copy(), 0
        masked, units = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for micro_batch, (first, last) in enumerate(pairwise(cuts)):
            starts = sequences.cu_seqlens[first : last + 1]
            inside = slice(starts[0], starts[-1])
            tokens = Tokens(sequences.maskable[inside], sequences.word_starts[inside], starts - starts[0])
            rng = generator(self.recipe.seed, MASKS, epoch, number, micro_batch)
            chosen, unit = self.choose(tokens, rates[micro_batch], masking.count == "bernoulli", rng)
            shares = masking.mask_share, masking.random_share
            seen[inside] = corrupt(sequences.ids[inside], chosen, unit, *shares, self.mask_id, self.ordinary_ids, rng)
            masked.append(chosen + starts[0])
            units.append(unit + units_before)
            units_before += int(unit[-1]) + 1 if len(unit) else 0
        return seen, np.concatenate(masked), np.concatenate(units)


def _block_bytes(recipe: Recipe) -> int:
    """About how much text a block has."""
    if recipe.shape is not None:
        return FILLED_BLOCK_BYTES
    enough = _STEPS * recipe.batch_size * recipe.data.max_length * _BYTES_PER_TOKEN
    return max(BLOCK_BYTES, min(enough, _MOST_BYTES))
