"""What PEFT 0.21 has and this app does not offer, and why: read by the Learn tab, checked against PEFT by a test."""

from dataclasses import dataclass


@dataclass(frozen=True)
class NotOffered:
    """A method or variant of PEFT that cannot be chosen here.

    Attributes:
        name: As its authors call it.
        what: What it is, as a phrase.
        why: Why it is left out, in one or two sentences.
        seen: What happened when it was tried with PEFT 0.21.2 on small models; empty where nothing needs telling.
        instead: Methods of the registry that come nearest.
        peft_types: Members of ``peft.PeftType`` that it stands for; empty for variants of an offered type.
    """

    name: str
    what: str
    why: str
    seen: str = ""
    instead: tuple[str, ...] = ()
    peft_types: tuple[str, ...] = ()


_NOT_TRUSTED = (
    NotOffered(
        "X-LoRA", "a gate that mixes several trained LoRA adapters for every token",
        "Its gate is not written to disk, so a trained one could never be opened again.",
        "The saved file held no tensor at all, and it could not be put on GPT-2, GPT-NeoX, T5 or any encoder.",
        ("lora",), ("XLORA",),
    ),
    NotOffered(
        "Lily", "low-rank updates whose layers share matrices through a router",
        "The router averages over all positions and all rows of a batch, so an answer depends on its neighbours and "
        "on words that are still to come.",
        "On T5 and BART, generated text differed from what the model's own forward pass predicts.",
        ("lora", "vblora"), ("LILY",),
    ),
    NotOffered(
        "KaSA", "LoRA with trained singular values, on a base whose smallest components are cut away",
        "It changes the frozen weights for good: switching the adapter off does not give the base model back, and it "
        "cannot be rewritten as plain LoRA as PiSSA can.",
        "Rewritten as plain LoRA, its logits were off by 5.7.",
        ("pissa", "adalora"),
    ),
    NotOffered(
        "PiSSA with a fast SVD (pissa_niter)", "PiSSA that finds its principal components by a randomised algorithm",
        "The random decomposition comes out differently when the adapter is opened, and the answers with it. PiSSA "
        "with the exact decomposition is offered.",
        "After saving and opening, logits differed by about 1 without any error.",
        ("pissa",),
    ),
    NotOffered(
        "OSF", "full-width training of all but the main singular directions, for learning one task after another",
        "It trains and stores a large part of every matrix, which is not what adapters are for, and is the slowest "
        "of all that were timed.",
        "On GPT-2 nothing at all trained, without an error; a step took four times as long as LoRA's.",
        ("full", "top_layers"), ("OSF",),
    ),
    NotOffered(
        "Shadow", "a small network that runs beside the frozen one and corrects it block by block",
        "It fits decoders only, can never be merged, and stores far more than the other methods.",
        "On BART, generation broke as soon as the key-value cache was used; encoders and T5 were refused.",
        ("parallel",), ("SHADOW",),
    ),
)  # fmt: skip

_OTHER_SETTING = (
    NotOffered(
        "LoftQ", "a start for LoRA that makes up for what quantising the base model loses",
        "It needs a quantised base model and a CUDA device; the models here are not quantised.",
        instead=("lora", "pissa"),
    ),
    NotOffered(
        "QALoRA", "LoRA on pooled inputs, made to merge into a quantised model",
        "It works on GPTQ models only.",
        "On any other model it silently becomes plain LoRA.",
        ("lora",),
    ),
    NotOffered(
        "Poly", "a stock of LoRA skills from which every task learns its own mixture",
        "It is meant for many tasks in one run, and each row must say which task it is; a run here has one task.",
        "It cannot be merged, and gradient checkpointing fails.",
        ("lora",), ("POLY",),
    ),
    NotOffered(
        "Multitask prompt tuning (MPT)", "a prompt shared by many tasks, times a small matrix for each",
        "It is meant for many tasks in one run, and each row must say which task it is; a run here has one task.",
        "On T5 and BART it generates, but a forward pass with given decoder inputs fails.",
        ("prompt",), ("MULTITASK_PROMPT_TUNING",),
    ),
    NotOffered(
        "Context-aware prompt tuning (CPT)",
        "prompt tuning that starts from worked examples and may move them only a little",
        "It fits decoders only, and wants examples with every token marked by its role, which the tasks here "
        "do not have.",
        instead=("prompt",), peft_types=("CPT",),
    ),
    NotOffered(
        "Cartridge", "a trained key-value cache that stands for a long document",
        "It is meant to be distilled from a document that is read over and over. Its parameters are those of prefix "
        "tuning, which is offered.",
        "As prefix tuning, it does not work with gradient checkpointing.",
        ("prefix",), ("CARTRIDGE",),
    ),
    NotOffered(
        "aLoRA", "LoRA that wakes up at an invocation phrase, so that the cache before it can be shared",
        "It pays off when a server switches between adapters in one conversation. Every input would have to hold "
        "the phrase, and it can be neither merged nor put on models that are not decoders.",
        instead=("lora",),
    ),
    NotOffered(
        "Arrow", "routing between LoRA adapters that are already trained",
        "Nothing is trained: it combines finished adapters.",
        instead=("lora",),
    ),
    NotOffered(
        "BD-LoRA", "LoRA with block-diagonal factors, which saves traffic between GPUs when serving",
        "It has fewer parameters than LoRA of the same rank, and what it gains is speed on several GPUs.",
        "It could not be put on GPT-2 as that model is published.",
        ("lora",),
    ),
    NotOffered(
        "LoRA on parameters (target_parameters)", "LoRA on bare weight tensors, such as the experts of a mixture",
        "None of the architectures here keeps its linear weights outside linear layers.",
        instead=("lora",),
    ),
    NotOffered(
        "Trainable tokens", "training the embeddings of a few chosen tokens",
        "It is for teaching a model new tokens, and the tasks here add none. On a classifier it leaves the head "
        "untrained.",
        "With tied embeddings, a second adapter cannot be added to the same model.",
        ("prompt", "head"), ("TRAINABLE_TOKENS",),
    ),
)  # fmt: skip

_TOO_NARROW = (
    NotOffered(
        "Adaption prompt (LLaMA-Adapter)", "trained prompt vectors that the upper layers look at through a gate",
        "PEFT knows it for Llama, Mistral and GPT-2 only.",
        "Nine of the eleven architectures tried were refused; on classifiers the head is neither trained nor saved.",
        ("prefix",), ("ADAPTION_PROMPT",),
    ),
    NotOffered(
        "AdaMSS", "updates in several subspaces that clustering finds in each matrix",
        "What it trains cannot be counted before the weights are loaded, and it saves a dozen times what it trains.",
        "896 trained values made a file of 11,276.",
        ("psoft", "adalora"), ("ADAMSS",),
    ),
    NotOffered(
        "FRoD", "a shared rotation of all layers with sparse trained coefficients",
        "What it trains cannot be counted before the weights are loaded, and it saves several times what it trains.",
        "1,160 trained values made a file of 10,672.",
        ("vera", "randlora"), ("FROD",),
    ),
    NotOffered(
        "MonteCLoRA", "LoRA whose weights are drawn at random around learned means while training",
        "It aims at calibrated answers, which the tasks here do not measure, and is counted too low before the "
        "weights are loaded.",
        instead=("lora", "pvera"),
    ),
    NotOffered(
        "VeLoRA", "LoRA that keeps compressed activations for its backward pass, to save memory",
        "It worked wherever it was tried. The adapter is LoRA's; only the gradients are rougher, and the memory "
        "estimate here would not know what it saves.",
        instead=("lora_fa",),
    ),
    NotOffered(
        "MiCA", "LoRA that trains one factor, the other being the base's minor singular directions",
        "It worked wherever it was tried. It is one more start for LoRA beside the five that are offered.",
        instead=("pissa", "lora_fa"),
    ),
    NotOffered(
        "Gaussian and orthogonal starts", "other random numbers for the first factor of LoRA",
        "They worked wherever they were tried, and are too close to the usual start to be methods of their own.",
        instead=("lora", "olora"),
    ),
    NotOffered(
        "LoRA with biases", "LoRA that also trains biases, the base's or one of its own",
        "Trained base biases stay in effect when the adapter is switched off, and allow one adapter for each model; "
        "biases of its own cannot be merged into layers that have none, as those of Llama, Qwen3 and T5.",
        instead=("bitfit", "beft"),
    ),
    NotOffered(
        "Layer replication", "a deeper model made of repeated layers, each copy with a LoRA of its own",
        "PEFT has it for Llama, BERT and Falcon only, and a deeper model compares with none of the others.",
        instead=("lora",),
    ),
    NotOffered(
        "MiSS bat and mini", "two versions of MiSS: one that looks at the weights, one with fewer parameters",
        "They worked, on the same architectures as MiSS; the plain form stands for all three.",
        instead=("miss",),
    ),
    NotOffered(
        "Riemannian optimizer", "an optimizer that rescales the gradients of LoRA's two factors by each other",
        "It ran when tried. It is a way of training LoRA rather than an adapter; LoRA+ and LoRA-FA stand for those.",
        instead=("lora_plus", "lora_fa"),
    ),
    NotOffered(
        "Bone", "the former name of MiSS",
        "PEFT has renamed it: it is offered as MiSS.",
        instead=("miss",),
    ),
)  # fmt: skip

NOT_OFFERED: tuple[NotOffered, ...] = (*_NOT_TRUSTED, *_OTHER_SETTING, *_TOO_NARROW)
"""Everything left out: first what gave wrong results, then what is for another setting, then what adds too little."""
