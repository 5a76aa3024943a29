"""What the tests of fine-tuning share: a tokenizer of known pieces, a pretrained folder, and labelled files."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from bert.config import ModelConfig
from bert.tokenizer import SPECIAL_TOKENS, Tokenizer
from pretrain.objectives.masked_lm import MaskedLM

PIECES = "서울 ##시 ##에 이 ##순 ##신 ##은 갔 ##다 . , the cat sat ##s on mat dog ran 서 ##울 a good bad film very"


@pytest.fixture(scope="session")
def pieces() -> Tokenizer:
    """A WordPiece vocabulary small enough to cut a text by hand."""
    vocabulary = {token: number for number, token in enumerate([*SPECIAL_TOKENS, *PIECES.split()])}
    backend = Backend(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    cleaning = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    backend.normalizer = normalizers.Sequence([cleaning, normalizers.NFC()])
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece(cleanup=False)
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    ends = [(token, vocabulary[token]) for token in ("[SEP]", "[CLS]")]
    backend.post_processor = processors.BertProcessing(*ends)
    return Tokenizer(backend)


@pytest.fixture(scope="session")
def small_config(pieces) -> ModelConfig:
    return ModelConfig(
        vocab_size=pieces.vocab_size,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory, pieces, small_config) -> Path:
    """A folder as pretraining with NSP leaves it."""
    folder = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(0)
    MaskedLM(small_config, pieces, sentence_labels=2).export(folder)
    return folder


@pytest.fixture
def write(tmp_path):
    """Writes a file of that text and gives its path."""

    def make(text: str, name: str = "data.tsv") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode())
        return path

    return make


def reviews(count: int, first: int = 0) -> str:
    """A table that can be learned: good films are 1, bad ones 0."""
    kinds = [("good", 1) if number % 2 else ("bad", 0) for number in range(first, first + count)]
    rows = [f"a {'very ' * (number % 3)}{word} film\t{label}" for number, (word, label) in enumerate(kinds)]
    return "\n".join(["text\tlabel", *rows]) + "\n"


def sentences(count: int) -> str:
    """Tagged words that can be learned: the animals."""
    lines = []
    for number in range(count):
        animal = ("cat", "dog")[number % 2]
        lines += ["the\tO", f"{animal}\tB-ANIMAL", *(["sat\tO"] * (number % 3)), ".\tO", ""]
    return "\n".join(lines) + "\n"
