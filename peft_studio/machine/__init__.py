"""The machine: its devices and its memory."""
