"""How a saved adapter is put on its untouched base by plain transformers and PEFT, as lines of Python. Torch-free.

An exported zip prints these lines in its card, and the check after saving runs the very same ones.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from peft_studio.models.lsg_settings import LongText

TUNERS = "peft_studio.methods.tuners"  # importing it teaches PEFT the project's own adapter types
OWN_PREFIX = "STUDIO_"  # which all begin with this
TRANSPOSED = ("gpt2", "gpt_bigcode")
"""Families whose linear layers are transformers' ``Conv1D``."""
NEED_LINEAR = frozenset({
    "BEFT", "BOFT", "C3A", "DELORA", "GLORA", "HRA", "LOHA", "LOKR", "MISS", "OFT", "PEANUT", "PSOFT", "ROAD", "SHIRA",
    "SUPERTUNING", "STUDIO_PARTIAL",
})  # fmt: skip
"""Adapter types that PEFT puts on ordinary linear layers only, or whose tensors are those of ordinary layers."""
PROMPTS = frozenset({"PROMPT_TUNING", "P_TUNING"})
"""Adapter types that put virtual tokens before a text's own."""
LINEAR_BASE = Path(__file__).with_name("linear_base.py")
"""The file that such an adapter has beside it."""
_LOADERS = {"SEQ_CLS": "AutoModelForSequenceClassification", "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM"}


def needs_project(peft_type: str) -> bool:
    """Whether an adapter type is one that PEFT learns from this project."""
    return peft_type.startswith(OWN_PREFIX)


@dataclass(frozen=True)
class Opening:
    """What it takes to use an adapter elsewhere.

    Attributes:
        peft_type: PEFT's name of the adapter's type.
        task_type: PEFT's name of the task, which decides the class of the model.
        model_type: The base's ``model_type`` of transformers; empty where it is not known.
        labels: Class names in the order of the head's outputs; empty unless it classifies.
        lsg: LSG attention of the base; None with its own.
    """

    peft_type: str
    task_type: str = "CAUSAL_LM"
    model_type: str = ""
    labels: tuple[str, ...] = ()
    lsg: LongText | None = None

    @property
    def loader(self) -> str:
        """The auto class of transformers that makes the base."""
        return _LOADERS.get(self.task_type, "AutoModelForCausalLM")

    @property
    def linear(self) -> bool:
        """Whether the base's transposed layers have to become ordinary ones first."""
        return self.model_type in TRANSPOSED and self.peft_type in NEED_LINEAR

    @property
    def changes_base(self) -> bool:
        """Whether the run trained on a base whose layers are not those that transformers loads."""
        return self.model_type in TRANSPOSED or self.lsg is not None

    @property
    def needs_project(self) -> bool:
        """Whether parts of this project have to be importable."""
        return needs_project(self.peft_type) or self.lsg is not None

    @property
    def imports(self) -> list[str]:
        """Import lines beside those of every adapter, each with its reason."""
        lines = []
        if needs_project(self.peft_type):
            lines.append(f"import {TUNERS}  # registers the adapter's type with PEFT")
        if self.lsg is not None:
            lines.append("from peft_studio.models.lsg_settings import LSGConfig")
            lines.append("from peft_studio.training.lsg import enable_lsg, extend_positions  # the base's attention")
        if self.linear:
            lines += [
                "import sys",
                'sys.path.insert(0, ".")',
                f"from {LINEAR_BASE.stem} import linear_everywhere  # a file here",
            ]
        return lines

    @property
    def base_steps(self) -> list[str]:
        """Lines that make ``base`` what the adapter was trained on."""
        lines = []
        if self.linear:
            lines.append("base = linear_everywhere(base)  # PEFT puts this method on ordinary linear layers only")
        if self.lsg is not None:
            lines.append(f"enable_lsg(base, {self.lsg.settings!r})")
            lines.append(f"extend_positions(base, {self.lsg.length})")
        return lines

    def code(self, base: str) -> str:
        """Lines that make ``tokenizer`` and ``model``; to be run in the adapter's folder.

        Args:
            base: A Python expression: the base's folder or Hub id.
        """
        labelled = self.task_type == "SEQ_CLS"
        heads = ", num_labels=len(labels), id2label=dict(enumerate(labels))" if labelled else ""
        heads += ", label2id={label: number for number, label in enumerate(labels)}" if labelled else ""
        lines = [
            *(["import torch"] if labelled else []),
            "from peft import PeftModel",
            f"from transformers import {self.loader}, AutoTokenizer",
            *self.imports,
            "",
            f"base_model = {base}",
            "tokenizer = AutoTokenizer.from_pretrained(base_model)",
        ]
        if labelled:
            lines += [
                *_PADDING,
                f"labels = {list(self.labels)!r}  # in the order of the model's outputs",
                "torch.manual_seed(0)  # layers that the base lacks start as they did in the run",
            ]
        lines.append(f'base = {self.loader}.from_pretrained(base_model, dtype="float32"{heads})')
        if labelled:
            lines.append("base.config.pad_token_id = tokenizer.pad_token_id")
        return "\n".join([*lines, *self.base_steps, 'model = PeftModel.from_pretrained(base, ".").eval()'])

    def use(self, context: int) -> str:
        """Lines that use ``tokenizer`` and ``model`` once.

        Args:
            context: Tokens that a text may have.
        """
        if self.task_type == "SEQ_CLS":
            given = f"truncation=True, max_length={context}, return_token_type_ids=False"
            logits = f'model(**tokenizer(texts, padding=True, {given}, return_tensors="pt")).logits'
            if self.peft_type in PROMPTS:  # behind a prompt, transformers would not find the last token before padding
                one = f'model(**tokenizer(text, {given}, return_tensors="pt")).logits'
                logits = f"torch.cat([{one} for text in texts])"
            lines = [
                'texts = ["a first text", "a second, longer text"]',
                "with torch.inference_mode():",
                f"    answers = {logits}.argmax(-1)",
                "print([labels[number] for number in answers.tolist()])",
            ]
            return "\n".join(lines)
        skip = "" if self.task_type == "SEQ_2_SEQ_LM" else ', inputs["input_ids"].shape[1]:'
        return "\n".join(
            [
                'inputs = tokenizer("a prompt", return_token_type_ids=False, return_tensors="pt")',
                "tokens = model.generate(**inputs, max_new_tokens=60, do_sample=False)",
                f"print(tokenizer.decode(tokens[0{skip}], skip_special_tokens=True))",
            ]
        )


_PADDING = (
    "tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)",
    'tokenizer.padding_side = "right"',
)


def opening_of(
    adapter_config: "dict[str, object]", model_type: str, labels: Iterable[str], lsg: LongText | None
) -> Opening:
    """What an adapter needs, from its ``adapter_config.json`` and what is known of its base."""
    peft_type, task_type = (str(adapter_config.get(key) or "") for key in ("peft_type", "task_type"))
    return Opening(peft_type, task_type or "CAUSAL_LM", model_type, tuple(labels), lsg)
