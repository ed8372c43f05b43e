"""The methods on decoder families that the matrix leaves out."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from peft_studio.errors import ConfigError
from peft_studio.methods import METHODS, get_method
from peft_studio.models.linear_base import linear_everywhere
from peft_studio.training.load import attach, base_output

SMALL: dict[str, dict[str, Any]] = {
    "phi3": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 64,
    },
    "gemma3_text": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 16, "intermediate_size": 64, "layer_types": ["sliding_attention", "full_attention"],
    },
}  # fmt: skip


def tiny(model_type: str) -> Any:
    torch.manual_seed(0)
    ids = {"vocab_size": 100, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **SMALL[model_type], **ids))
    return linear_everywhere(model).eval()


@pytest.mark.parametrize("model_type", SMALL)
@pytest.mark.parametrize("name", sorted(METHODS))
def test_method_trains_and_switches_off(name: str, model_type: str) -> None:
    base = tiny(model_type)
    rows = torch.randint(2, 100, (2, 8))
    with torch.no_grad():
        before = base(input_ids=rows).logits
    method = get_method(name)
    if name == "bitfit":
        with pytest.raises(ConfigError, match="nothing to train"):
            attach(base, method)
        return
    model = attach(base, method)
    loss = model(input_ids=rows).logits[:, -8:].square().mean()
    loss.backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in model.parameters())
    with torch.no_grad(), base_output(model) as off:
        assert torch.equal(off(input_ids=rows).logits, before)
