"""Masked language modelling, with a sentence loss where the pairs are labelled (Devlin et al. 2019, section 3.1).

Letters: T tokens in the batch, N sequences, M masked tokens, V vocabulary.
"""

from pathlib import Path
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from bert import hub
from bert.config import ModelConfig
from bert.flops import training_flops
from bert.heads import MaskedLMHead, SentenceHead
from bert.model import BertModel
from bert.packed import PackedBatch
from bert.pretrained import filled
from bert.serving.served import Served
from bert.tokenizer import Tokenizer
from pretrain.objectives.objective import PretrainObjective
from pretrain.targets import TARGETS


class MaskedLM(PretrainObjective):
    """The encoder with a masked-LM head, and a sentence head if there are sentence labels."""

    targets: ClassVar = TARGETS

    def __init__(
        self, config: ModelConfig, tokenizer: Tokenizer, sentence_labels: bool, attention: str = "sdpa"
    ) -> None:
        super().__init__()
        self.bert = BertModel(config, pooler=sentence_labels, attention=attention)
        self.masked_lm_head = MaskedLMHead(config)
        self.sentence_head = SentenceHead(config) if sentence_labels else None
        self.tokenizer = tokenizer
        self.weights = {"masked_lm_loss": 1.0, "sentence_loss": 1.0}

    def compile_parts(self) -> None:
        """Compile embeddings, layers and the masked-LM loss for training; batches must have one shape."""
        self.bert.embeddings.compile_for_training()
        self.bert.encoder.compile_layers()
        self.masked_lm_head.cross_entropy.compile_for_training()

    def counts(self, batch: PackedBatch) -> dict[str, float]:
        """Tokens predicted, for sums over tokens, and pairs, for sums over pairs; without fillers."""
        counts = {}
        if "masked_index" in batch.targets:
            counts |= dict.fromkeys(("masked_lm_loss", "masked_lm_accuracy"), _predicted(batch))
        if "sentence_labels" in batch.targets:
            counts |= dict.fromkeys(("sentence_loss", "sentence_accuracy"), batch.real_sequences)
        return counts

    def flops(self, batch: PackedBatch) -> float:
        """Operations of the matrix products in training on the batch; not counted where parts are frozen."""
        if self.bert.frozen:
            return 0.0
        return training_flops(self.bert.config, batch, _predicted(batch), pooler=self.sentence_head is not None)

    def depth(self, name: str) -> int:
        """0 for the heads, 1 for the top layer and the pooler, one more for each layer below."""
        return self.bert.depth(name)

    def forward(self, batch: PackedBatch) -> dict[str, Tensor]:
        """Summed cross-entropies in nats, and numbers of correct predictions."""
        # Only masked tokens are projected onto the vocabulary; of the rest of the last layer, only the pooled are read.
        output = self.bert(batch, read=batch.targets.get("masked_index", batch.cu_seqlens[:0]))
        sums = {}
        if "masked_index" in batch.targets:
            sums |= self._masked_lm(output.last_hidden_state, batch)
        if "sentence_labels" in batch.targets:
            logits, labels = self.sentence_head(output.pooled).float(), batch.targets["sentence_labels"]  # (N, 2)
            sums["sentence_loss"] = F.cross_entropy(logits, labels, reduction="sum")
            sums["sentence_accuracy"] = (logits.detach().argmax(-1) == labels).sum()
        return sums

    def _masked_lm(self, hidden: Tensor, batch: PackedBatch) -> dict[str, Tensor]:
        table, labels = self.bert.embeddings.token.weight, batch.targets["masked_labels"]
        loss, right = self.masked_lm_head.loss(hidden, table, labels)  # (M, H) -> (M, V) -> ()
        return {"masked_lm_loss": loss, "masked_lm_accuracy": right}

    def export(self, folder: Path) -> None:
        """Write weights, config and tokenizer, so that transformers opens them with the class named in config.json."""
        architecture = "BertForMaskedLM" if self.sentence_head is None else "BertForPreTraining"
        hub.save_config(folder, self.bert.config, architecture)
        hub.save_weights(folder, self)
        self.tokenizer.save(folder, self.bert.config.max_position_embeddings)

    def restore(self, folder: Path) -> None:
        """Load the weights that `export` wrote there."""
        hub.load_weights(folder, self)

    def start_from(self, folder: Path) -> str:
        """Load a model that was trained elsewhere; returns a line on which heads are new and what was not needed."""
        loaded = hub.load_weights(folder, self, ("bert.pooler.", "masked_lm_head.", "sentence_head."))
        lost = "\nWARNING: that model has no masked-LM head, so a random one is trained together with its encoder"
        return loaded.in_words() + (lost if "masked_lm_head." in loaded.new else "")

    def served(self, top: int = 5) -> Served:
        """Serving by filling masks; the example is only the mask if the model cannot read more."""
        mask, longest = self.tokenizer.mask_token, self.bert.config.max_position_embeddings
        text = f"the {mask} of the model"
        text = text if len(self.tokenizer.encode(text)) <= longest else mask
        return Served("fill_mask", {"text": text}, filled(self.eval(), text, top), {"top": top})


def _predicted(batch: PackedBatch) -> int:
    """How many tokens are to be predicted, without fillers; read on the CPU."""
    if "masked_index" not in batch.targets:
        return 0
    if batch.real is None:
        return batch.targets["masked_index"].shape[0]
    return int((batch.targets["masked_labels"] >= 0).sum())
