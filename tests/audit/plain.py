"""What the audit compares this project with: transformers, PEFT and PyTorch alone, and no line of the project's code.

Started by ``independent.py`` in a process that cannot import the project. It reads what the app has exported: rows,
settings, and the card's own lines.

    python plain.py train FOLDER      -> {"trainable", "first", "loss"}: FOLDER's run again
    python plain.py open FOLDER       -> {"answers"}: what the adapter says, opened by the lines of its card
"""

import json
import os
import re
import sys
from pathlib import Path

import torch
import yaml
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

LINEAR = r".*layers\.\d+\.(self_attn|mlp)\.[a-z]+_proj"
"""Every linear layer of a Llama's blocks."""


def peft_method(name, given):
    """PEFT's configuration of a method, by what its documentation says of the parameters in the preset."""
    import peft

    linear = {"target_modules": LINEAR, "task_type": "CAUSAL_LM"}
    rank = given.get("rank")
    made = {
        "lora": lambda: peft.LoraConfig(r=rank, lora_alpha=given["alpha"], lora_dropout=given["dropout"], **linear),
        "ia3": lambda: peft.IA3Config(
            target_modules=LINEAR if given["targets"] == "all linear" else r".*(k_proj|v_proj|down_proj)",
            feedforward_modules=r".*mlp\.[a-z]+_proj", task_type="CAUSAL_LM",
        ),
        "loha": lambda: peft.LoHaConfig(r=rank, alpha=given["alpha"], **linear),
        "lokr": lambda: peft.LoKrConfig(
            r=rank, alpha=given["alpha"], decompose_factor=given["factor"], **linear
        ),
        "hra": lambda: peft.HRAConfig(r=rank, **linear),
        "miss": lambda: peft.MissConfig(r=rank, **linear),
        "vera": lambda: peft.VeraConfig(r=rank, d_initial=given["initial"], **linear),
        "road": lambda: peft.RoadConfig(variant=given["variant"], group_size=given["group"], **linear),
        "delora": lambda: peft.DeloraConfig(r=rank, delora_lambda=given["strength"], **linear),
        "prompt": lambda: peft.PromptTuningConfig(
            num_virtual_tokens=given["virtual_tokens"], task_type="CAUSAL_LM",
            prompt_tuning_init={"words": "SAMPLE_VOCAB", "random": "RANDOM"}[given["start"]],
        ),
    }  # fmt: skip
    return made[name]() if name in made else None


class Bottleneck(nn.Module):
    """Houlsby's adapter behind a linear layer: down, non-linearity, up, added back.

    The paper's start: normal with a standard deviation of 0.01, cut off at two of them, so nearly zero.
    """

    def __init__(self, layer, width):
        super().__init__()
        self.layer = layer
        self.down, self.up = nn.Linear(layer.out_features, width), nn.Linear(width, layer.out_features)
        for linear in (self.down, self.up):
            nn.init.trunc_normal_(linear.weight, std=0.01, a=-0.02, b=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, hidden):
        hidden = self.layer(hidden)
        return hidden + self.up(F.relu(self.down(hidden)))


def by_hand(model, name, given):
    """Methods that PEFT does not have, in plain PyTorch: which of the model's own parameters train."""
    blocks, last = len(model.model.layers), given.get("layers", 0)
    tops = tuple(f"model.layers.{number}." for number in range(blocks - last, blocks))
    trains = {
        "full": lambda part: True,
        "bitfit": lambda part: part.endswith("bias"),
        "ln_tuning": lambda part: "norm" in part,
        "top_layers": lambda part: part.startswith(tops) or part.startswith("model.norm"),
        "houlsby": lambda part: ".down." in part or ".up." in part,
    }[name]
    if name == "houlsby":
        for block in model.model.layers:
            block.self_attn.o_proj = Bottleneck(block.self_attn.o_proj, given["bottleneck_dim"])
            block.mlp.down_proj = Bottleneck(block.mlp.down_proj, given["bottleneck_dim"])
    for part, tensor in model.named_parameters():
        tensor.requires_grad_(trains(part))
    return model


def batch_of(folder, split, tokenizer):
    """All rows of a split as one batch: ids and labels ``(B, T)``, the loss on answer and end mark only."""
    lines = (folder / f"{split}.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    pairs = []
    for row in rows:
        prompt = tokenizer(row["prompt"])["input_ids"] or [tokenizer.bos_token_id]
        answer = tokenizer(row["target"], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        pairs.append((prompt, answer))
    width = max(len(prompt) + len(answer) for prompt, answer in pairs)
    ids, labels = torch.zeros(len(pairs), width, dtype=torch.long), torch.full((len(pairs), width), -100)
    for number, (prompt, answer) in enumerate(pairs):
        whole = torch.tensor(prompt + answer)
        ids[number, : len(whole)] = whole
        labels[number, len(prompt) : len(whole)] = whole[len(prompt) :]
    return ids, labels


def loss_of(model, ids, labels):
    """Mean over all answer tokens, in nats; rows are padded on the right, which no token looks at."""
    logits = model(input_ids=ids).logits[:, -ids.shape[1] :]  # without a prompt's virtual tokens
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100)


def train(folder):
    """Trains a run again: the rows of its batches, AdamW, a linear schedule."""
    preset = yaml.safe_load((folder / "preset.yaml").read_text(encoding="utf-8"))
    given, training = dict(preset["method"]), preset["training"]
    name = given.pop("name")
    base = str(folder / preset["model"]["id"])
    set_seed(training["seed"])
    tokenizer = AutoTokenizer.from_pretrained(base)
    with torch.random.fork_rng():
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = peft_method(name, given)
    if config is not None:
        from peft import get_peft_model

        model = get_peft_model(model, config)
    else:
        model = by_hand(model, name, given)
    parts = [part for part in model.parameters() if part.requires_grad]
    steps, warm = training["max_steps"], training["warmup_steps"]
    optimizer = torch.optim.AdamW(parts, lr=training["learning_rate"], weight_decay=training["weight_decay"])
    falls = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, (steps - step) / max(1, steps - warm)))
    (ids, labels), first = batch_of(folder, "train", tokenizer), None
    model.train()
    for rows in json.loads((folder / "batches.json").read_text(encoding="utf-8")):
        loss = loss_of(model, ids[rows], labels[rows])
        first = float(loss) if first is None else first
        loss.backward()
        nn.utils.clip_grad_norm_(parts, training["max_grad_norm"])
        optimizer.step()
        falls.step()
        optimizer.zero_grad()
    model.eval()
    with torch.inference_mode():
        found = float(loss_of(model, *batch_of(folder, "validation", tokenizer)))
    return {"trainable": sum(part.numel() for part in parts), "first": first, "loss": found}


def opened(folder):
    """Runs the lines of a card up to the model, and asks it the test rows."""
    os.chdir(folder)
    sys.path.insert(0, ".")
    card = Path("README.md").read_text(encoding="utf-8")
    lines = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0]
    scope = {}
    exec(lines, scope)  # all of it, as a reader would: that its last lines run is part of the question
    model, tokenizer = scope["model"], scope["tokenizer"]
    rows = [json.loads(line) for line in Path("predictions.jsonl").read_text(encoding="utf-8").split("\n") if line]
    answers = []
    for row in rows:
        ids = tokenizer(row["prompt"], return_token_type_ids=False, return_tensors="pt")
        with torch.inference_mode():
            if "labels" in scope:
                answers.append(scope["labels"][int(model(**ids).logits.argmax())])
                continue
            tokens = model.generate(**ids, max_new_tokens=64, do_sample=False)[0, ids["input_ids"].shape[1] :]
        answers.append(tokenizer.decode(tokens, skip_special_tokens=True))
    return {"answers": [[row["prediction"], answer] for row, answer in zip(rows, answers, strict=True)]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    assert "peft_studio" not in sys.modules
    for name in sys.argv[2:]:
        try:
            result = (train if sys.argv[1] == "train" else opened)(Path(name).resolve())
        except Exception as error:  # one line each: a method that fails here is a finding, not the end
            result = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
        print(json.dumps({"folder": Path(name).name, **result}), flush=True)
