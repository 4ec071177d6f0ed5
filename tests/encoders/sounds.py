"""Sound files made on the spot: WAV of every kind, FLAC without compression, and tones to put in them."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

PCM, FLOAT = 1, 3


def tone(seconds: float, hertz: float = 440.0, *, rate: int = 16_000, seed: int = 0) -> NDArray[np.float32]:
    """A gliding tone [N] with a little noise, within -1..1."""
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(0, 0.02, len(t))
    return (0.5 * np.sin(2 * np.pi * hertz * t * (1 + 0.2 * t)) + noise).clip(-1, 1).astype(np.float32)


def wav(
    wave: NDArray[np.floating],
    *,
    rate: int = 16_000,
    code: int = PCM,
    bits: int = 16,
    extensible: bool = False,
    before: bytes = b"",
    told: int | None = None,
) -> bytes:
    """A WAV file of [N] or [N, C] in -1..1.

    Args:
        before: chunks that stand before the samples.
        told: the data chunk's size, where it is not the real one.
    """
    wave_NC = wave[:, None] if wave.ndim == 1 else wave
    channels = wave_NC.shape[1]
    if code == FLOAT:
        data = wave_NC.astype(f"<f{bits // 8}").tobytes()
    else:
        top = 2 ** (bits - 1)
        whole = np.round(wave_NC * top).clip(-top, top - 1).astype(np.int64) + (128 if bits == 8 else 0)
        data = np.ascontiguousarray(whole.astype("<i8").reshape(-1, 1).view(np.uint8)[:, : bits // 8]).tobytes()
    frame = channels * bits // 8
    form = struct.pack("<HHIIHH", 0xFFFE if extensible else code, channels, rate, rate * frame, frame, bits)
    if extensible:
        form += struct.pack("<HHIH", 22, bits, 0, code) + b"\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"
    size = len(data) if told is None else told
    body = b"WAVE" + _chunk(b"fmt ", form) + before + b"data" + struct.pack("<I", size) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def flac(wave: NDArray[np.floating], *, rate: int = 16_000, told: int | None = None) -> bytes:
    """A FLAC file of [N] in -1..1, 16 bits, its frames stored verbatim (RFC 9639, sections 8 and 9).

    Args:
        told: the length that the header tells, where it is not the real one; 0: not known.
    """
    block = 4096
    samples = np.round(wave * 32768).clip(-32768, 32767).astype(">i2")
    length = len(samples) if told is None else told
    packed = rate << 44 | 0 << 41 | 15 << 36 | length
    info = struct.pack(">HH", block, block) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    out = b"fLaC" + b"\x80" + len(info).to_bytes(3, "big") + info
    for number, start in enumerate(range(0, len(samples), block)):
        part = samples[start : start + block]
        # Fixed block size; its length follows as 16 bits; rate from STREAMINFO; one channel; 16 bits.
        head = b"\xff\xf8\x70\x08" + bytes([number]) + struct.pack(">H", len(part) - 1)
        head += bytes([_crc(head, 8, 0x07)])
        frame = head + b"\x02" + part.tobytes()
        out += frame + _crc(frame, 16, 0x8005).to_bytes(2, "big")
    return out


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    value, top = 0, 1 << (bits - 1)
    for byte in data:
        value ^= byte << (bits - 8)
        for _ in range(8):
            value = ((value << 1) ^ polynomial if value & top else value << 1) & ((1 << bits) - 1)
    return value
