"""The optimizer steps of a run: ``transformers.Trainer``, with all that a run does not need switched off.

A step costs no more than one of a bare script; ``tests/benchmarks/bench_step.py`` measures that.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from peft_studio.batching import LengthGroupedBatches
from peft_studio.config import RunConfig, TrainingConfig
from peft_studio.methods import Method, Params, get_method
from peft_studio.training.callbacks import StepCallback
from peft_studio.training.data import IGNORED, Example
from peft_studio.training.formats import Format


def make_optimizer(
    method: Method, params: Params, model: Any, learning_rate: float, weight_decay: float = 0.0
) -> Optimizer:
    """The method's own optimizer, or AdamW over everything that trains."""
    if method.optimizer is not None:
        return method.optimizer(model, params, learning_rate, weight_decay)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, learning_rate, weight_decay=weight_decay)


OPTIMIZERS = {"adamw": "adamw_torch_fused", "adafactor": "adafactor", "sgd": "sgd"}


class StudioTrainer(Trainer):
    """The stock loop over our batches, with the loss on target tokens and one callback.

    Args:
        model: A PEFT model whose trainable parameters are the method's.
        config: Method and training settings; ``training.max_steps`` counts.
        examples: Training rows.
        form: How rows meet the model.
        folder: Where the Trainer may write; nothing is kept.
        callback: Is told loss, gradient norm and tokens of each step; steps that it has counted already are left out.
        others: More callbacks.
        cuts: Earlier ends of a run that was made longer, in steps.
    """

    def __init__(
        self,
        model: nn.Module,
        config: RunConfig,
        examples: Sequence[Example],
        form: Format,
        folder: str,
        callback: StepCallback,
        others: Sequence[TrainerCallback] = (),
        cuts: Sequence[int] = (),
    ) -> None:
        training, method = config.training, get_method(config.method.name)
        self._batches = LengthGroupedBatches(
            [len(example.ids) for example in examples],
            training.batch_size,
            training.max_steps * training.gradient_accumulation,
            training.seed,
            start=callback.step * training.gradient_accumulation,
            cuts=[cut * training.gradient_accumulation for cut in cuts],
            classes=[example.ids[-1] for example in examples] if form.classifies else (),
        )
        self._form = form
        self._callback = callback
        self._penalty = method.penalty
        self._bf16 = training.precision == "bf16"
        self._answers = 1  # in the batches of the step at hand
        self._trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        own = None
        if method.optimizer is not None:
            own = make_optimizer(method, config.method, model, training.learning_rate, training.weight_decay)
        super().__init__(
            model,
            training_arguments(training, folder),
            train_dataset=list(examples),
            callbacks=[callback, *others],
            optimizers=(own, None),
        )
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False  # compute_loss gives a share of the step's mean

    def get_train_dataloader(self) -> DataLoader:
        """One pass over all batches of the run; the Trainer sees a single epoch."""
        return DataLoader(
            self.train_dataset,
            batch_sampler=self._batches,
            collate_fn=self._form.collate,
            pin_memory=torch.cuda.is_available(),
        )

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Forward and backward of one batch; returns its detached share of the step's loss."""
        self._callback.tokens += inputs.pop("tokens")
        model.train()
        moved = self._prepare_inputs(inputs)
        with torch.autocast(self.args.device.type, torch.bfloat16, enabled=self._bf16):
            loss = self.compute_loss(model, moved)
        loss.backward()
        self._callback.add_loss(loss.detach())
        return loss.detach()

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        """The batches of one step; counts what they predict, so that accumulated batches equal one large batch."""
        batches = [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)]
        self._answers = max(1, sum(int((batch["labels"] != IGNORED).sum()) for batch in batches))
        return batches, None

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Cross entropy on the batch's targets, divided by how many of them the whole step has."""
        loss = self._form.loss(model, inputs, reduction="sum") / self._answers
        if self._penalty is not None:
            loss = loss + self._penalty(model) / self.args.gradient_accumulation_steps
        return loss

    def floating_point_ops(self, inputs: dict[str, Tensor | Any]) -> int:
        """Not counted: counting walks over all parameters at every step."""
        return 0

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        norm = nn.utils.clip_grad_norm_(self._trainable, self.args.max_grad_norm)
        self._callback.grad_norm = norm
        return norm

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        return grad_norm  # without clipping no norm is computed


def training_arguments(training: TrainingConfig, folder: str) -> TrainingArguments:
    """Our settings in the Trainer's terms; everything that writes, logs, evaluates or reports is off."""
    return TrainingArguments(
        output_dir=folder,
        max_steps=training.max_steps,
        per_device_train_batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        lr_scheduler_type=training.scheduler if training.scheduler != "constant" else "constant_with_warmup",
        warmup_steps=training.warmup_steps,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        gradient_accumulation_steps=training.gradient_accumulation,
        optim=OPTIMIZERS[training.optimizer],
        seed=training.seed,
        use_cpu=not torch.cuda.is_available(),
        logging_strategy="no",
        save_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_nan_inf_filter=False,
        dataloader_num_workers=0,
        remove_unused_columns=False,
    )
