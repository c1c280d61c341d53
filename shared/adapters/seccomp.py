"""Takes a process everything but its memory and the files it has open: Linux' seccomp, by a list of what may stay.

What is sealed can open no file and no connection, start and signal no process, and read no other one's memory, whatever
code runs in it. It needs no privilege; Cloud Run's first generation (gVisor) and second have it.

Source:
    https://www.kernel.org/doc/html/latest/userspace-api/seccomp_filter.html; linux/seccomp.h, linux/filter.h,
    linux/audit.h and asm/unistd_64.h for the numbers.
"""

import struct
from typing import Final

# Calls of x86-64: files that are open, memory, the end of the process, and what the C library does on its own.
_ALLOWED: Final = {
    "read": 0,
    "write": 1,
    "close": 3,
    "mmap": 9,
    "mprotect": 10,
    "munmap": 11,
    "brk": 12,
    "rt_sigaction": 13,
    "rt_sigprocmask": 14,
    "rt_sigreturn": 15,
    "readv": 19,
    "mremap": 25,
    "madvise": 28,
    "exit": 60,
    "futex": 202,
    "clock_gettime": 228,
    "exit_group": 231,
}
_ARCH_X86_64: Final = 0xC000003E
_NO_NEW_PRIVILEGES: Final = 38  # PR_SET_NO_NEW_PRIVS
_SECCOMP: Final = 317  # of x86-64
_SET_FILTER: Final = 1  # SECCOMP_SET_MODE_FILTER
_ALL_THREADS: Final = 1  # SECCOMP_FILTER_FLAG_TSYNC
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K
_NUMBER_AT, _ARCH_AT = 0, 4  # in struct seccomp_data
_ALLOW, _KILL, _EPERM = 0x7FFF0000, 0x80000000, 0x00050001


def seal() -> None:
    """Seal this process, for good. What it may not do fails with EPERM.

    Raises:
        OSError: The system has no seccomp, or is another one than Linux on x86-64.
    """
    import ctypes

    numbers = list(_ALLOWED.values())
    steps = [
        (_LOAD, 0, 0, _ARCH_AT),
        (_EQUAL, 1, 0, _ARCH_X86_64),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        # To the last step, or one further.
        *((_EQUAL, len(numbers) - at, 0, number) for at, number in enumerate(numbers)),
        (_RETURN, 0, 0, _EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(steps), ctypes.addressof(code)))
    system = ctypes.CDLL(None, use_errno=True)
    if system.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or system.syscall(_SECCOMP, _SET_FILTER, _ALL_THREADS, program):
        raise OSError(ctypes.get_errno(), "This process cannot be sealed.")
