"""Where the rows of a task made from files are, and what their columns mean."""

from dataclasses import dataclass

from peft_studio.tasks.base import Split, TaskKind


@dataclass(frozen=True)
class CustomData:
    """Where the rows are and what their columns mean.

    Attributes:
        kind: ``generation`` or ``classification``.
        train_file: Training rows.
        validation_file: Validation rows; empty: set aside from the training rows.
        test_file: Test rows; empty: set aside from the training rows.
        input_column: What the model is given. When this and ``target_column`` are empty, all columns are guessed.
        target_column: What it should answer: a text, a list of accepted texts, or a label.
        references_column: More accepted answers for metrics; empty when there are none.
        template: The prompt with ``{column}`` placeholders; empty: the input, and in generation a line break after it.
        chat_column: Whole conversations. With them, an input column holds what comes before turns that begin with an
            assistant's, and a target column the last answer of those that end with a user's.
        history_column: Turns that were said before the input, which makes each row a chat.
        system_column: What a model is told before all else, which makes each row a chat.
        loss_on: The loss of a chat is taken on the ``assistant``'s turns, or on ``all``.
    """

    kind: TaskKind
    train_file: str
    validation_file: str = ""
    test_file: str = ""
    input_column: str = ""
    target_column: str = ""
    references_column: str = ""
    template: str = ""
    chat_column: str = ""
    history_column: str = ""
    system_column: str = ""
    loss_on: str = "assistant"

    @property
    def chats(self) -> bool:
        """Whether rows are conversations."""
        return bool(self.chat_column or self.history_column or self.system_column)

    def file(self, split: Split) -> str:
        """The file of a split; empty when it has none of its own."""
        return {"train": self.train_file, "validation": self.validation_file, "test": self.test_file}[split]
