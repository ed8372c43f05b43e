"""What is told of each token is what plain transformers and peft compute of the same ids."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from peft_studio.errors import ConfigError
from peft_studio.tasks.base import Row
from peft_studio.training.formats.formats import format_for
from peft_studio.training.inference.model_pool import ModelPool, columns_of
from peft_studio.training.inference.token_table import token_table
from peft_studio.training.load import layout_of

PROMPT, TEXT = "name: Biox Mill | food: Thai =>", " Biox Mill serves Thai food."


def told(pool: ModelPool, folder: Path, saved: dict[str, Path], *names: str, text: str = TEXT) -> dict[str, Any]:
    base, tokenizer = pool.base(str(folder))
    columns = columns_of(pool, str(folder), [(name, str(folder), saved[name]) for name in names])
    return token_table(columns, format_for(layout_of(base), tokenizer, ()), Row(PROMPT, text))


@pytest.mark.parametrize("name", ["lora", "ia3", "prefix", "prompt"])
def test_equal_to_plain_libraries(pool: ModelPool, tiny_model: Path, saved: dict[str, Path], name: str) -> None:
    found = told(pool, tiny_model, saved, name)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    targets = [token["id"] for token in found["tokens"]]
    assert tokenizer.decode(targets) == TEXT + tokenizer.eos_token
    assert "".join(token["text"] for token in found["tokens"]) == TEXT + tokenizer.eos_token
    prompt = tokenizer(PROMPT)["input_ids"]
    ids = torch.tensor([prompt + targets])
    base = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    with torch.inference_mode():
        plain = base(input_ids=ids).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
        adapted = PeftModel.from_pretrained(base, str(saved[name])).eval()
        own = adapted(input_ids=ids).logits[0][-len(targets) - 1 : -1].double().log_softmax(-1)
    for column, expected in zip(found["columns"], (plain, own), strict=True):
        chosen = expected[range(len(targets)), targets]
        assert column["logprob"] == pytest.approx(chosen.tolist(), abs=2e-5)
        assert column["loss"] == pytest.approx(-float(chosen.mean()), abs=2e-5)
        assert column["kl"] == pytest.approx((expected.exp() * (expected - plain)).sum(-1).tolist(), abs=2e-5)
        assert column["likeliest"][0][0][1] == pytest.approx(float(expected[0].exp().max()), abs=2e-5)
        assert column["rank"][0] == 1 + int((expected[0] > chosen[0]).sum())
    assert max(found["columns"][1]["kl"]) > 0 == max(found["columns"][0]["kl"])


def test_an_empty_text_is_refused(pool: ModelPool, tiny_model: Path, saved: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="text is empty"):
        told(pool, tiny_model, saved, "lora", text="  ")
