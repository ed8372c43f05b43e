"""The field's usual data sets, with the columns, splits and metrics that papers use. Facts only.

The data of the CodeReviewer paper are files on Zenodo; their mirror on the Hub states no licence. The entry
for code reviews is therefore another collection. Ids, columns and licences are those of the data sets' own pages.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from peft_studio.tasks.base import Split, TaskKind


@dataclass(frozen=True)
class HubData:
    """A data set of the Hub and how it is used.

    Attributes:
        id: Hub id, or a folder with data files.
        title: Name shown to people.
        kind: ``generation`` or ``classification``; None: guessed from the rows.
        input_column: What the model is given; empty: guessed.
        target_column: What it should answer; empty: guessed.
        config: Name of the configuration; empty for the only one.
        references_column: More accepted answers; empty when there are none.
        template: The prompt, as in ``custom``.
        metric: The metric that the field reports.
        licence: As its page says.
        splits: Names of its splits by our own; empty: the usual ones.
        labels: Class names by number, where the data set has numbers only.
        tokens: Columns that hold lists of tokens, to be joined by spaces.
        summary: One or two sentences.
        group: What it is about, for lists.
    """

    id: str
    title: str
    kind: TaskKind | None = None
    input_column: str = ""
    target_column: str = ""
    config: str = ""
    references_column: str = ""
    template: str = ""
    metric: str = ""
    licence: str = ""
    splits: Mapping[Split, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    summary: str = ""
    group: str = ""


_GLUE: dict[Split, str] = {"train": "train", "test": "validation"}
"""GLUE keeps the labels of its test rows to itself, so papers report the validation rows."""
_ALL: dict[Split, str] = {"train": "train", "validation": "validation", "test": "test"}

_ENTRIES = (
    HubData(
        "GEM/e2e_nlg", "E2E NLG, cleaned", "generation", "meaning_representation", "target",
        references_column="references", template="{meaning_representation}\n", metric="bleu",
        licence="CC-BY-SA-4.0", splits=_ALL,
        summary="Restaurants: two to nine attributes with their values, to be said in a sentence or two.",
        group="Data to text",
    ),
    HubData(
        "GEM/web_nlg", "WebNLG, English", "generation", "input", "target", config="en",
        references_column="references", template="{input}\n", metric="bleu",
        licence="CC-BY-NC-4.0", splits=_ALL,
        summary="One to seven facts of DBpedia, to be said in a short text; some categories occur in the test only.",
        group="Data to text",
    ),
    HubData(
        "GEM/dart", "DART", "generation", "tripleset", "target",
        references_column="references", template="{tripleset}\n", metric="bleu",
        licence="MIT", splits=_ALL,
        summary="Facts from tables of many domains, from WebNLG and from E2E, to be said in a sentence.",
        group="Data to text",
    ),
    HubData(
        "EdinburghNLP/xsum", "XSum", "generation", "document", "summary",
        template="{document}\nSummary:", metric="rougeL", licence="unknown", splits=_ALL,
        summary="BBC articles, each with a summary of one sentence.",
        group="Summaries",
    ),
    HubData(
        "abisee/cnn_dailymail", "CNN/DailyMail", "generation", "article", "highlights", config="3.0.0",
        template="{article}\nSummary:", metric="rougeL", licence="Apache-2.0", splits=_ALL,
        summary="News articles, each with three or four highlights. Long: raise training.max_length.",
        group="Summaries",
    ),
    HubData(
        "stanfordnlp/sst2", "SST-2", "classification", "sentence", "label",
        template="{sentence}", metric="accuracy", licence="unknown", splits=_GLUE, labels=("negative", "positive"),
        summary="Sentences and phrases of film reviews, positive or negative. Tested on GLUE's validation rows.",
        group="Classification",
    ),
    HubData(
        "google/code_x_glue_ct_code_to_text", "CodeXGLUE code to text, Python", "generation", "code_tokens",
        "docstring_tokens", config="python", template="{code_tokens}\n", metric="bleu",
        licence="C-UDA", splits=_ALL, tokens=("code_tokens", "docstring_tokens"),
        summary="Python functions without their comments, and the first paragraph of their docstrings.",
        group="Code",
    ),
    HubData(
        "google/code_x_glue_cc_defect_detection", "CodeXGLUE defect detection", "classification", "func", "target",
        template="{func}", metric="accuracy", licence="C-UDA", splits=_ALL, labels=("safe", "defective"),
        summary="C functions of two open-source projects (Devign), some of which were vulnerable.",
        group="Code",
    ),
    HubData(
        "google/code_x_glue_cc_code_refinement", "CodeXGLUE code refinement, small", "generation", "buggy", "fixed",
        config="small", template="{buggy}\n", metric="bleu", licence="C-UDA", splits=_ALL,
        summary="Short Java methods before and after a bug was fixed, with names replaced (METHOD_1, VAR_1).",
        group="Code",
    ),
    HubData(
        "ronantakizawa/github-codereview", "GitHub code reviews", "generation", "before_code", "reviewer_comment",
        template="{before_code}\nReview:", metric="bleu",
        licence="other; source repositories are MIT, Apache-2.0 or BSD",
        summary="About 50 lines of code from pull requests, and what a reviewer wrote; a quarter has nothing to say. "
        "Long: raise training.max_length.",
        group="Code",
    ),
)  # fmt: skip

HUB_DATA: dict[str, HubData] = {entry.id: entry for entry in _ENTRIES}
"""Data sets by id, in the order of lists."""


def find_data(name: str, config: str = "", input_column: str = "", target_column: str = "") -> HubData:
    """The catalogue's entry of a data set, or a new one whose columns are guessed as far as they are not given.

    Args:
        name: Hub id, for entries with or without its owner, or a folder with data files.
        config: Another configuration than the entry's.
        input_column: Another input than the entry's.
        target_column: Another target than the entry's.
    """
    for entry in HUB_DATA.values():
        own = config in ("", entry.config) and not input_column and not target_column
        if own and name in (entry.id, entry.id.rpartition("/")[2]):
            return entry
    return HubData(name, name, config=config, input_column=input_column, target_column=target_column)
