"""Every kind of adapter that PEFT has is either behind an offered method or listed with the reason why not."""

import pytest
from peft import PeftType

from peft_studio.methods import METHODS
from peft_studio.methods.not_offered import NOT_OFFERED, NotOffered

# methods -> the type that PEFT saves them as; the others are the project's own or saved as LoRA or LN tuning
TYPES = {
    "lora": "LORA", "lora_plus": "LORA", "lora_fa": "LORA", "adalora": "ADALORA", "ia3": "IA3", "hira": "HIRA",
    "vera": "VERA", "gralora": "GRALORA", "prefix": "PREFIX_TUNING", "prompt": "PROMPT_TUNING",
    "p_tuning": "P_TUNING", "ln_tuning": "LN_TUNING", "loha": "LOHA", "lokr": "LOKR", "oft": "OFT", "boft": "BOFT",
    "hra": "HRA", "miss": "MISS", "shira": "SHIRA", "c3a": "C3A", "road": "ROAD", "delora": "DELORA",
    "pissa": "LORA", "olora": "LORA", "eva": "LORA", "corda": "LORA", "lora_ga": "LORA", "fourierft": "FOURIERFT",
    "waveft": "WAVEFT", "vblora": "VBLORA", "randlora": "RANDLORA", "deft": "DEFT", "psoft": "PSOFT",
    "peanut": "PEANUT", "glora": "GLORA", "pvera": "PVERA", "beft": "BEFT", "tinylora": "TINYLORA",
    "unilora": "UNILORA", "supertuning": "SUPERTUNING",
}  # fmt: skip
BUNDLED = ("houlsby", "pfeiffer", "parallel", "bitfit", "layernorm_head", "head", "top_layers", "full")
VARIANTS = (
    "LoftQ", "QALoRA", "KaSA", "pissa_niter", "MonteCLoRA", "BD-LoRA", "VeLoRA", "aLoRA", "Arrow", "MiCA",
    "Riemannian", "Bone", "Layer replication",
)  # fmt: skip


def test_the_mapping_names_every_method() -> None:
    assert {*TYPES, *BUNDLED} == set(METHODS)


def test_every_type_of_peft_is_accounted_for() -> None:
    listed = [name for entry in NOT_OFFERED for name in entry.peft_types]
    assert len(listed) == len(set(listed))
    assert not set(listed) & set(TYPES.values())
    assert {*listed, *TYPES.values()} == {member.value for member in PeftType}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_of_lora_are_listed(variant: str) -> None:
    assert any(variant in entry.name for entry in NOT_OFFERED)


@pytest.mark.parametrize("entry", NOT_OFFERED, ids=lambda entry: entry.name)
def test_entries_are_short_sentences_for_people(entry: NotOffered) -> None:
    assert not entry.what.endswith(".") and entry.why.endswith(".")
    assert not entry.seen or entry.seen.endswith(".")
    assert all(0 < text.count(". ") + 1 <= 2 for text in (entry.why, entry.seen))
    assert set(entry.instead) <= set(METHODS)


def test_names_are_unique() -> None:
    assert len({entry.name for entry in NOT_OFFERED}) == len(NOT_OFFERED)
