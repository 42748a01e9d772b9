"""This machine's CPU, as far as a program that was compiled for it alone depends on it."""

import hashlib
import platform
import re
from pathlib import Path

# Those of x86's flags that stand for instructions a compiler emits by itself; the others come and go with kernels.
INSTRUCTIONS = re.compile(
    r"(sse|ssse|avx|amx|fma|bmi|sha|vaes|vpclmul|gfni|xop|tbm|lwp|adx|3dnow)\w*"
    r"|f16c|abm|movbe|popcnt|aes|pclmulqdq|cx16|lahf_lm|rdrand|rdseed|rdpid|fsgsbase|prfchw|movdiri|movdir64b|serialize"
)
# Of Arm's cores those lines that say what it can do, or which core it is: GCC's -march=native reads both.
ARM_LINES = ("Features", "CPU implementer", "CPU part")


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return a short name that two machines share only if programs compiled for one CPU run on the other."""
    traits = sorted(_traits(cpuinfo))
    return f"{platform.machine()}-{hashlib.sha256(' '.join(traits).encode()).hexdigest()[:8]}"


def _traits(cpuinfo: Path) -> set[str]:
    traits = set()
    for line in cpuinfo.read_text().splitlines():
        name, _, value = (part.strip() for part in line.partition(":"))
        if name == "flags":
            traits |= {flag for flag in value.split() if INSTRUCTIONS.fullmatch(flag)}
        elif name in ARM_LINES:
            traits.add(f"{name}={value}")
    return traits
