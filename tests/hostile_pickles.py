"""Pickles that nobody should open, written opcode by opcode."""

import struct

PROTO_4 = b"\x80\x04"


def text(value: str) -> bytes:
    """Write a text of up to 255 bytes."""
    raw = value.encode("utf-8", "surrogatepass")
    return b"\x8c" + bytes([len(raw)]) + raw


def named(module: str, name: str) -> bytes:
    """Begin a pickle of protocol 4 with a global on its stack."""
    return PROTO_4 + text(module) + text(name) + b"\x93"


def call(module: str, name: str, arguments: bytes) -> bytes:
    """Write a pickle that calls a global with a tuple."""
    return named(module, name) + arguments + b"R."


def claims(n_bytes: int) -> dict[str, bytes]:
    """Write pickles that claim so many bytes and have none."""
    size = struct.pack("<Q", n_bytes)
    return {
        "BINBYTES8": b"\x80\x04\x8e" + size + b".",
        "BYTEARRAY8": b"\x80\x05\x96" + size + b".",
        "BINUNICODE8": b"\x80\x04\x8d" + size + b".",
        "FRAME": b"\x80\x04\x95" + size + b"N.",
        "BINBYTES": b"\x80\x03B\xff\xff\xff\xff.",
        "BINUNICODE": b"\x80\x02X\xff\xff\xff\xff.",
        "BINSTRING": b"\x80\x02T\xff\xff\xff\x7f.",
        "BINSTRING of negative length": b"\x80\x02T\xff\xff\xff\xff.",
        "LONG4": b"\x80\x02\x8b\xff\xff\xff\x7f.",
        "LONG4 of negative length": b"\x80\x02\x8b\xff\xff\xff\xff.",
    }


def laughs(n_levels: int) -> bytes:
    """Write a scaler whose setting is lists of twice the same list: 2**n_levels values in a few hundred bytes."""
    # Each list is noted and popped, and taken twice into the next.
    nest = b"".join(b"](h%ch%ce\x940" % (level, level) for level in range(n_levels))
    scaler = text("sklearn.preprocessing._data") + text("StandardScaler") + b"\x93)\x81}"
    return PROTO_4 + b"N\x940" + nest + scaler + text("copy") + b"h%csb." % n_levels


def hash_bomb(n_levels: int) -> bytes:
    """Write a dict whose key is tuples of twice the same tuple; hashing it takes 2**n_levels steps."""
    return PROTO_4 + b"}N" + b"2\x86" * n_levels + b"Ns."


def deep_key(n_levels: int) -> bytes:
    """Write a dict whose key is a tuple in a tuple in a tuple; hashing it needs as many levels of the C stack."""
    return PROTO_4 + b"}N" + b"\x85" * n_levels + b"Ns."


def hostile_pickles() -> dict[str, bytes]:
    """Give one of each kind, by what it tries."""
    command = text("echo pwned > /tmp/pwned") + b"\x85"
    protocol_0 = {
        "os.system, protocol 0": b"cos\nsystem\n(S'echo pwned'\ntR.",
        "posix.system, protocol 1": b"cposix\nsystem\n(U\x0aecho pwnedtR.",
        "os.system by INST": b"(S'echo pwned'\nios\nsystem\n.",
        "os.system by OBJ": b"(cos\nsystem\nU\x0aecho pwnedo.",
        "subprocess.Popen, protocol 2": b"\x80\x02csubprocess\nPopen\n]X\x04\0\0\0truea\x85R.",
    }
    chain = (
        named("builtins", "getattr")
        + named("builtins", "__import__")[2:]
        + text("os")
        + b"\x85R"
        + text("system")
        + b"\x86R"
        + command
        + b"R."
    )
    return {
        **protocol_0,
        "os.system, protocol 4": call("os", "system", command),
        "os.system, protocol 5": b"\x80\x05" + call("os", "system", command)[2:],
        "os.system as NEWOBJ": named("os", "system") + command + b"\x81.",
        "os.system as NEWOBJ_EX": named("os", "system") + command + b"}\x92.",
        "os.system, then thrown away": named("os", "system") + command + b"R0N.",
        "os.system as a key": PROTO_4 + b"}" + call("os", "system", command)[2:-1] + b"Ns.",
        "eval": call("builtins", "eval", text("__import__('os').system('echo pwned')") + b"\x85"),
        "exec": call("builtins", "exec", text("open('/tmp/pwned', 'w')") + b"\x85"),
        "open": call("builtins", "open", text("/etc/passwd") + b"\x85"),
        "a chain of getattr": chain,
        "an import of a module nobody has": named("no_such_module_at_all", "thing") + b".",
        "a module that runs when imported": named("antigravity", "fly") + b".",
        "a dotted name through scikit-learn": call("sklearn.datasets._base", "os.system", command),
        "a dotted name through numpy": call("numpy.f2py.crackfortran", "os.system", command),
        "BUILD on a class": named("builtins", "object") + b"}" + text("x") + b"Nsb.",
        "BUILD with __setstate__": named("collections", "deque") + b")\x81}" + text("__setstate__") + b"Nsb.",
        "a codec by name": call("_codecs", "encode", text("x") + text("rot13") + b"\x86"),
        "a name with control characters": named("os\n\x1b[31m", "sy\N{RIGHT-TO-LEFT OVERRIDE}stem\0") + b".",
        "a name of half a character": named("os", "\ud800") + b".",
        "an unknown escape": b"S'\\q\\777\\xzz'\n.",
        "memo bomb": b"Nr\x00\x87\x93\x03.",
        "billion laughs": laughs(60),
        "hash bomb": hash_bomb(60),
        "deep key": deep_key(1_000_000),
        "persistent id": b"Pos.system\n.",
        "persistent id in binary": text("os.system") + b"Q.",
        "extension code": b"\x82\x01.",
        "buffer": b"\x80\x05\x97.",
        "a zip": b"PK\x03\x04" + b"\0" * 30,
        "a zip in a pickle": b"C\x08PK\x03\x04\0\0\0\0.",
        "Keras 2": call("keras.saving.pickle_utils", "deserialize_model_from_bytecode", b"C\x01x\x85"),
        **claims(2**40),
    }
