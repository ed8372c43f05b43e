"""The command line: ``python -m peft_studio``."""
