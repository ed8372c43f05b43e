"""Teaches PEFT the project's own tuners. Importing this module is all that loading one of our adapters needs:

import peft_studio.methods.tuners
model = PeftModel.from_pretrained(base, "adapter")
"""

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

import peft_studio.methods.boft_permutation  # noqa: F401  BOFT adapters load quickly
from peft_studio.methods.bottleneck_tuner import BOTTLENECK, BottleneckConfig, BottleneckModel
from peft_studio.methods.partial_tuner import PARTIAL, PartialConfig, PartialModel

for _name, _config, _model in (
    (BOTTLENECK, BottleneckConfig, BottleneckModel),
    (PARTIAL, PartialConfig, PartialModel),
):
    PEFT_TYPE_TO_CONFIG_MAPPING[_name] = _config
    PEFT_TYPE_TO_TUNER_MAPPING[_name] = _model
    PEFT_TYPE_TO_PREFIX_MAPPING[_name] = _model.prefix

__all__ = ["BottleneckConfig", "PartialConfig"]
