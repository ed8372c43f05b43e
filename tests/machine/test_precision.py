"""What a processor does with 16-bit numbers is read from what its kernel says, here of processors of all kinds."""

from pathlib import Path

import pytest

from peft_studio.machine import precision
from peft_studio.machine.precision import FAST_FROM, Bf16, find_bf16, processor_bf16, processor_name

X86 = "processor\t: {0}\nmodel name\t: Chip {1}\nflags\t\t: fpu sse2 avx2 {2}\n\n"
ARM = "processor\t: {0}\nFeatures\t: fp asimd {2}\n\n"


@pytest.mark.parametrize(
    ("core", "flags", "found"),
    [
        (X86, "", ()),
        (X86, "avx512f avx512bw avx512_vnni", ()),
        (X86, "avx512f avx512_bf16", ("AVX-512 bf16",)),
        (X86, "avx512_bf16 amx_bf16 amx_tile", ("AMX", "AVX-512 bf16")),
        (ARM, "", ()),
        (ARM, "i8mm bf16", ("Arm bf16",)),
    ],
)
def test_instructions_are_read_from_the_kernels_list(
    core: str, flags: str, found: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(core.format(0, "X", flags) + core.format(1, "X", flags))
    assert processor_bf16(path) == found
    path = tmp_path / "uneven"
    path.write_text(core.format(0, "X", flags) + core.format(1, "X", ""))
    assert processor_bf16(path) == ()  # a thread may run on either core


def test_names(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(X86.format(0, "X", ""))
    assert processor_name(path) == "Chip X"
    assert processor_name(tmp_path / "missing") and processor_bf16(tmp_path / "missing") == ()


def test_auto_takes_the_faster() -> None:
    small, large = FAST_FROM["cpu"] - 1, FAST_FROM["cpu"]
    able, unable = Bf16("cpu", "Chip", "AMX"), Bf16("cpu", "Chip", "")
    assert [able.precision("auto", size) for size in (small, large)] == ["fp32", "bf16"]
    assert [unable.precision("auto", size) for size in (small, large)] == ["fp32", "fp32"]
    for chip in (able, unable):
        assert [chip.precision(wish, 1) for wish in ("fp32", "bf16")] == ["fp32", "bf16"]  # what is asked for is done
        assert chip.reason("bf16", 1) == "as chosen"
    assert "AMX" in able.reason("auto", large) and "20 million" in able.reason("auto", small)
    assert "no instructions" in unable.reason("auto", large)


def test_what_will_crawl_is_said_before() -> None:
    assert "crawl" in Bf16("cpu", "Chip", "").warning("bf16") and "Chip" in Bf16("cpu", "Chip", "").warning("bf16")
    assert Bf16("cpu", "Chip", "").warning("fp32") == ""
    assert Bf16("cpu", "Chip", "AMX").warning("bf16") == ""


@pytest.mark.parametrize(("capability", "able"), [((7, 5), False), ((8, 0), True), ((9, 0), True), (None, False)])
def test_gpus_by_their_compute_capability(capability: tuple[int, int] | None, able: bool) -> None:
    gpu = find_bf16("cuda", "H", capability)
    assert bool(gpu.by) == able and not gpu.crawls
    assert gpu.precision("auto", FAST_FROM["cuda"]) == ("bf16" if able else "fp32")


def test_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_bf16("mps").precision("auto", 10**9) == "fp32"
    monkeypatch.setattr(precision, "processor_bf16", lambda: ())
    assert find_bf16("cpu").crawls
