"""Sound files to samples: WAV by NumPy alone, FLAC through the package `soundfile` (`pip install 'umecache[audio]'`).

    size = sound_size(data)                  # SoundSize(samples=480000, rate=48000), from the header
    wave_N = read_sound(data, first=48000)   # float32 in -1..1, channels averaged, the first second

What is read is what the content says, whatever the name: WAV with whole numbers of 8, 16, 24 or 32 bits or floats of 32
or 64, and FLAC. Headers are data from elsewhere: sizes are held against the bytes that are there before anything is
allocated, and no more is decoded than is asked for.

Shapes: N samples, C channels.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from umecache.errors import MissingExtra, UnreadableInput

BLOCK = 1 << 16  # samples read at a time where the length is not known
RATES = (1_000, 192_000)  # Hz; what lies outside is a damaged header, not a sound
MAX_CHANNELS = 64
LOUDEST = 1e6  # floats are free to pass 1, and some writers leave them at the scale of 16 bits
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE  # WAV's format codes; extensible names the real one further on
STREAMED = 0xFFFFFFFF  # the size of a data chunk whose writer could not go back: it goes on to the end of the file
_FLAC_HEADER = 42  # bytes: "fLaC", a block header of 4, STREAMINFO of 34


@dataclass(frozen=True, slots=True)
class SoundSize:
    """How long a sound is: `samples` of each channel, `rate` of them a second."""

    samples: int
    rate: int


@dataclass(frozen=True, slots=True)
class _Wav:
    """Where the samples of a WAV file lie, and what they are."""

    size: SoundSize
    channels: int
    kind: str  # NumPy's name of one sample; "i3" for 24 bits
    start: int  # byte


def sound_size(data: bytes) -> SoundSize:
    """The length of a sound file's content, from its header.

    Raises:
        UnreadableInput: it is no sound, is cut short, empty, or of a kind that is not read.
        MissingExtra: it is FLAC, and `soundfile` is not installed.
    """
    if _recognise(data) == "WAV":
        return _wav(data).size
    _soundfile()  # now: an extraction should not find out in its last shard
    rate, samples = _flac(data)
    return SoundSize(samples or len(_read_flac(data, None)), rate)  # 0: its writer did not know


def read_sound(data: bytes, *, first: int | None = None) -> NDArray[np.float32]:
    """The samples [N] of a sound file's content, float32, channels averaged.

    Args:
        first: decode no more samples than these.

    Raises:
        UnreadableInput: as `sound_size`; samples that are not finite.
        MissingExtra: as `sound_size`.
    """
    wave_NC = _read_wav(data, first) if _recognise(data) == "WAV" else _read_flac(data, first)
    with np.errstate(over="ignore", invalid="ignore"):
        wave_N: NDArray[np.float32] = wave_NC.mean(axis=1, dtype=np.float64).astype(np.float32)
    if not np.isfinite(wave_N).all():
        raise UnreadableInput("samples that are not finite")
    if len(wave_N) and np.abs(wave_N).max() > LOUDEST:
        raise UnreadableInput(f"samples beyond {LOUDEST:g}, where full scale is 1")
    return wave_N


# WAV


def _wav(data: bytes) -> _Wav:
    """Walk the chunks: `fmt ` says what samples are, `data` holds them; all others are passed over."""
    form, at = None, 12
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        start = at + 8
        if name == b"data":
            return _samples(form, start, len(data) - start if length == STREAMED else length, len(data))
        if name == b"fmt ":
            form = data[start : start + length]
        at = start + length + length % 2
    raise _truncated("WAV")


def _samples(form: bytes | None, start: int, length: int, end: int) -> _Wav:
    if form is None or len(form) < 16:
        raise UnreadableInput("a broken WAV file: it does not say what its samples are")
    code, channels, rate, _, frame, bits = struct.unpack_from("<HHIIHH", form)
    if code == EXTENSIBLE and len(form) >= 26:
        (code,) = struct.unpack_from("<H", form, 24)
    kinds = {
        (PCM, 8): "u1",
        (PCM, 16): "<i2",
        (PCM, 24): "i3",
        (PCM, 32): "<i4",
        (FLOAT, 32): "<f4",
        (FLOAT, 64): "<f8",
    }
    if (code, bits) not in kinds:
        raise UnreadableInput(f"a WAV file of a kind that is not read (format {code}, {bits} bits)")
    _check(channels, rate, "WAV")
    if frame != channels * bits // 8:
        raise UnreadableInput("a broken WAV file: its frames are not of its channels' size")
    if start + length > end:
        raise _truncated("WAV")
    return _Wav(SoundSize(_some(length // frame), rate), channels, kinds[code, bits], start)


def _read_wav(data: bytes, first: int | None) -> NDArray[Any]:
    wav = _wav(data)
    count = (wav.size.samples if first is None else min(first, wav.size.samples)) * wav.channels
    if wav.kind == "i3":
        # Three bytes as the upper three of a 32-bit number: the sign comes along.
        wide = np.zeros((count, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8, 3 * count, wav.start).reshape(count, 3)
        values: NDArray[Any] = wide.view("<i4")[:, 0]
    else:
        values = np.frombuffer(data, np.dtype(wav.kind), count, wav.start)
    if values.dtype.kind == "u":  # 8 bits are counted from 128
        scaled = (values.astype(np.float32) - 128) / 128
    elif values.dtype.kind == "i":
        scaled = values.astype(np.float64) / 2.0 ** (8 * values.itemsize - 1)
    else:
        scaled = values
    return scaled.reshape(-1, wav.channels)


# FLAC


def _flac(data: bytes) -> tuple[int, int]:
    """Rate and samples that the first block, STREAMINFO, tells; 0 samples where the writer did not know."""
    if len(data) < _FLAC_HEADER:
        raise _truncated("FLAC")
    if data[4] & 0x7F != 0:
        raise UnreadableInput("a broken FLAC file: it does not begin with its STREAMINFO")
    packed = int.from_bytes(data[18:26], "big")  # 20 bits rate, 3 channels - 1, 5 bits - 1, 36 samples
    rate, channels, samples = packed >> 44, (packed >> 41 & 7) + 1, packed & (1 << 36) - 1
    _check(channels, rate, "FLAC")
    return rate, samples


def _read_flac(data: bytes, first: int | None) -> NDArray[Any]:
    soundfile = _soundfile()
    _, told = _flac(data)
    wanted = told if first is None else min(first, told) if told else first
    try:
        if told:
            wave_NC: NDArray[Any] = soundfile.read(BytesIO(data), frames=wanted, dtype="float32", always_2d=True)[0]
        else:
            wave_NC = _read_to_the_end(soundfile.SoundFile(BytesIO(data)), first)
    except RuntimeError as error:  # libsndfile's own errors are among these
        text = " ".join(str(error).split())[:100]
        raise UnreadableInput(f"a broken FLAC file: {text or type(error).__name__}") from None
    if told and len(wave_NC) < (wanted or 0):
        raise _truncated("FLAC")
    _some(len(wave_NC))
    return wave_NC


def _read_to_the_end(file: Any, first: int | None) -> NDArray[Any]:
    """A FLAC file whose writer did not know its length: block by block, since libsndfile takes it for endless."""
    file.seekable = lambda: False  # or soundfile seeks to where it has read to, which fails at the end
    blocks: list[NDArray[Any]] = []
    while (left := BLOCK if first is None else min(BLOCK, first - sum(map(len, blocks)))) > 0:
        blocks.append(file.read(left, dtype="float32", always_2d=True))
        if len(blocks[-1]) < left:
            break
    return np.concatenate(blocks) if blocks else np.zeros((0, 1), np.float32)


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: the package is there, its library libsndfile is not
        raise MissingExtra("soundfile", "audio", purpose="Reading FLAC files") from error
    return soundfile


# What both share


def _check(channels: int, rate: int, kind: str) -> None:
    if not 1 <= channels <= MAX_CHANNELS:
        raise UnreadableInput(f"a {kind} file of {channels} channels")
    if not RATES[0] <= rate <= RATES[1]:
        raise UnreadableInput(f"a {kind} file of {rate} samples a second")


def _some(samples: int) -> int:
    if samples == 0:
        raise UnreadableInput("a sound of no length")
    return samples


def _truncated(kind: str) -> UnreadableInput:
    return UnreadableInput(f"a truncated {kind} file")


_OTHERS = (  # what such files turn out to be, in the words of a failure list
    (re.compile(rb"\0*\Z"), "not a sound: nothing but zero bytes"),
    (re.compile(rb"ID3|\xff[\xe2-\xff]"), "a kind of sound that is not read: MP3"),
    (re.compile(rb"OggS"), "a kind of sound that is not read: Ogg"),
    (re.compile(rb"FORM.{4}AIF", re.DOTALL), "a kind of sound that is not read: AIFF"),
    (re.compile(rb".{4}ftyp", re.DOTALL), "a kind of sound that is not read: MP4"),
    (re.compile(rb"RF64|RIFX"), "a kind of WAV that is not read: RF64 or big-endian"),
    (re.compile(rb"\x89PNG|\xff\xd8|GIF8"), "not a sound: an image"),
    (re.compile(rb"version https://git-lfs"), "not a sound: a Git LFS pointer to one"),
)


def _recognise(data: bytes) -> str:
    if not data:
        raise UnreadableInput("an empty file (zero bytes)")
    if data[:4] == b"RIFF" and data[8:12] in (b"WAVE", b""):
        return "WAV"
    if data[:4] == b"fLaC":
        return "FLAC"
    for signature, reason in _OTHERS:
        if signature.match(data):
            raise UnreadableInput(reason)
    raise UnreadableInput("not a sound, or a kind that is not read (WAV and FLAC are)")
