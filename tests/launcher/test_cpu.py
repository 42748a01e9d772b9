"""The name of a CPU, which keeps a build from running where it would die of an illegal instruction."""

from pathlib import Path

from launcher.cpu import cpu_name

X86 = "processor : 0\nmodel name : Some CPU\nflags : fpu sse2 avx avx2 constant_tsc\nbogomips : {speed}\n\n"
ARM = "processor : 0\nFeatures : fp asimd {features}\nCPU implementer : 0x41\nCPU part : {part}\n\n"


def name(tmp_path: Path, text: str) -> str:
    (tmp_path / "cpuinfo").write_text(text)
    return cpu_name(tmp_path / "cpuinfo")


def test_cpus_with_other_instructions_have_other_names(tmp_path: Path) -> None:
    plain = name(tmp_path, X86.format(speed=1))
    assert name(tmp_path, X86.format(speed=1).replace("avx2", "avx2 avx512f")) != plain
    assert name(tmp_path, X86.format(speed=1).replace(" avx2", "")) != plain


def test_speed_order_and_a_kernels_own_flags_do_not_count(tmp_path: Path) -> None:
    plain = name(tmp_path, X86.format(speed=1))
    assert name(tmp_path, X86.format(speed=2) * 2) == plain
    assert name(tmp_path, X86.format(speed=1).replace("constant_tsc", "nonstop_tsc rep_good")) == plain
    assert name(tmp_path, X86.format(speed=1).replace("sse2 avx", "avx sse2")) == plain


def test_arm_cores_differ_by_features_and_part(tmp_path: Path) -> None:
    names = {name(tmp_path, ARM.format(features=f, part=p)) for f in ("crc32", "sve") for p in ("0xd40", "0xd4f")}
    assert len(names) == 4


def test_this_machine_has_a_name_that_a_folder_can_have() -> None:
    assert cpu_name() == cpu_name()
    assert "/" not in cpu_name()
