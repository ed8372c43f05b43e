"""The optimizer steps of a run: ``transformers.Trainer``, with all that a run does not need switched off.

A step costs no more than one of a bare script; ``tests/benchmarks/bench_step.py`` measures that.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainingArguments

from peft_studio.batching import LengthGroupedBatches
from peft_studio.config import TrainingConfig
from peft_studio.training.callbacks import StepCallback
from peft_studio.training.data import Example, collate
from peft_studio.training.loss import target_loss


class StudioTrainer(Trainer):
    """The stock loop over our batches, with the loss on target tokens and one callback.

    Args:
        model: A PEFT model whose trainable parameters are the method's.
        training: Steps, batch size, learning rate and so on.
        examples: Training rows.
        padding: Id of the token to pad with.
        folder: Where the Trainer may write; nothing is kept.
        callback: Is told loss, gradient norm and tokens of each step.
    """

    def __init__(
        self,
        model: nn.Module,
        training: TrainingConfig,
        examples: Sequence[Example],
        padding: int,
        folder: str,
        callback: StepCallback,
    ) -> None:
        self._batches = LengthGroupedBatches(
            [len(example.ids) for example in examples], training.batch_size, training.max_steps, training.seed
        )
        self._padding = padding
        self._callback = callback
        self._trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        super().__init__(
            model, training_arguments(training, folder), train_dataset=list(examples), callbacks=[callback]
        )
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False  # target_loss is already the mean

    def get_train_dataloader(self) -> DataLoader:
        """One pass over all batches of the run; the Trainer sees a single epoch."""
        return DataLoader(
            self.train_dataset,
            batch_sampler=self._batches,
            collate_fn=lambda examples: collate(examples, self._padding),
            pin_memory=torch.cuda.is_available(),
        )

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Forward and backward of one batch; returns the detached loss."""
        self._callback.tokens += inputs.pop("tokens")
        model.train()
        loss = self.compute_loss(model, self._prepare_inputs(inputs))
        loss.backward()
        self._callback.loss = loss.detach()
        return self._callback.loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Mean cross entropy on the batch's target tokens."""
        return target_loss(model, inputs)

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
        optim="adamw_torch_fused",
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
