"""Sound files: every kind of WAV bit by bit, FLAC where its reader is installed, and what is no sound."""

from __future__ import annotations

import io
import struct
import sys
import types
import wave as standard
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.encoders.sounds import FLOAT, PCM, flac, tone, wav
from umecache.encoders.audiofile import SoundSize, read_sound, sound_size
from umecache.errors import MissingExtra, UnreadableInput

WAVE = tone(0.1)


@pytest.mark.parametrize(
    ("code", "bits", "step"),
    [(PCM, 8, 2**-7), (PCM, 16, 2**-15), (PCM, 24, 2**-23), (PCM, 32, 2**-24), (FLOAT, 32, 0), (FLOAT, 64, 0)],
)
@pytest.mark.parametrize("extensible", [False, True])
def test_every_kind_of_wav(code: int, bits: int, step: float, extensible: bool) -> None:
    data = wav(WAVE, code=code, bits=bits, extensible=extensible)
    assert sound_size(data) == SoundSize(len(WAVE), 16_000)
    np.testing.assert_allclose(read_sound(data), WAVE, rtol=0, atol=step / 2 + 1e-7)
    assert read_sound(data).dtype == np.float32


def test_whole_numbers_are_those_of_the_standard_library() -> None:
    out = io.BytesIO()
    with standard.open(out, "wb") as file:
        file.setparams((2, 2, 44_100, 0, "NONE", ""))
        file.writeframes(struct.pack("<6h", 32767, 32767, -32768, -32768, 100, -300))
    assert sound_size(out.getvalue()) == SoundSize(3, 44_100)
    np.testing.assert_array_equal(read_sound(out.getvalue()), np.float32([32767, -32768, -100]) / 32768)


def test_channels_are_averaged() -> None:
    both = np.stack([WAVE, -0.5 * WAVE], axis=1)
    np.testing.assert_allclose(read_sound(wav(both, code=FLOAT, bits=32)), 0.25 * WAVE, atol=1e-7)


def test_only_the_beginning_is_decoded() -> None:
    for bits in (16, 24):
        data = wav(WAVE, bits=bits)
        np.testing.assert_array_equal(read_sound(data, first=100), read_sound(data)[:100])
        assert len(read_sound(data, first=10**9)) == len(WAVE)


def test_other_chunks_are_passed_over() -> None:
    odd = b"LIST" + struct.pack("<I", 5) + b"INFO!" + b"\0"
    np.testing.assert_array_equal(read_sound(wav(WAVE, before=odd)), read_sound(wav(WAVE)))


def test_a_streamed_wav_goes_on_to_the_end() -> None:
    np.testing.assert_array_equal(read_sound(wav(WAVE, told=0xFFFFFFFF)), read_sound(wav(WAVE)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (bytes(100), "nothing but zero bytes"),
        (b"ID3\x04" + bytes(50), "MP3"),
        (b"\xff\xfb\x90\x64" + bytes(50), "MP3"),
        (b"OggS" + bytes(50), "Ogg"),
        (b"\0\0\0\x20ftypM4A ", "MP4"),
        (b"FORM\0\0\0\0AIFF", "AIFF"),
        (b"RF64" + bytes(60), "RF64"),
        (b"\x89PNG\r\n\x1a\n", "an image"),
        (b"what color is the cat?", "not a sound"),
        (b"RIFF", "truncated WAV"),
        (wav(WAVE)[:30], "truncated WAV"),
        (wav(WAVE)[:-10], "truncated WAV"),
        (wav(WAVE, told=10**9), "truncated WAV"),
        (wav(WAVE[:0]), "no length"),
        (wav(WAVE, told=0), "no length"),
        (wav(WAVE, code=0x55), "kind that is not read"),
        (wav(WAVE, bits=48), "kind that is not read"),
        (wav(WAVE, rate=0), "samples a second"),
        (wav(WAVE, rate=4_000_000), "samples a second"),
        (wav(np.zeros((10, 65))), "65 channels"),
        (b"RIFF\0\0\0\0WAVEdata\x04\0\0\0abcd", "what its samples are"),
    ],
)
def test_what_is_no_sound_is_unreadable(data: bytes, reason: str) -> None:
    for read in (sound_size, read_sound):
        with pytest.raises(UnreadableInput, match=reason):
            read(data)


def test_frames_of_another_size_are_broken() -> None:
    data = bytearray(wav(WAVE))
    data[32:34] = struct.pack("<H", 6)
    with pytest.raises(UnreadableInput, match="frames"):
        sound_size(bytes(data))


@pytest.mark.parametrize(("value", "reason"), [(np.nan, "finite"), (np.inf, "finite"), (1e30, "full scale")])
def test_values_that_are_no_sound(value: float, reason: str) -> None:
    broken = WAVE.copy()
    broken[7] = value
    with pytest.raises(UnreadableInput, match=reason):
        read_sound(wav(broken, code=FLOAT, bits=32))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_never_does_worse_than_unreadable(data: st.DataObject) -> None:
    file = bytearray(wav(WAVE[:200]))
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, 60))] = data.draw(st.integers(0, 255))
    cut = bytes(file[: data.draw(st.integers(0, len(file)))])
    try:
        size = sound_size(cut)
        assert len(read_sound(cut)) == size.samples
    except (UnreadableInput, MissingExtra):
        pass


# FLAC


def test_flac_without_its_reader_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    for read in (sound_size, read_sound):
        with pytest.raises(MissingExtra, match="soundfile") as error:
            read(flac(WAVE))
        assert error.value.next == "pip install 'umecache[audio]'"
    assert sound_size(wav(WAVE)).samples == len(WAVE), "WAV needs no extra"


def test_flac() -> None:
    pytest.importorskip("soundfile", reason="the extra umecache[audio] is not installed")
    data = flac(WAVE, rate=44_100)
    assert sound_size(data) == SoundSize(len(WAVE), 44_100)
    np.testing.assert_allclose(read_sound(data), WAVE, rtol=0, atol=2**-16 + 1e-7)
    np.testing.assert_array_equal(read_sound(data, first=50), read_sound(data)[:50])
    assert sound_size(flac(WAVE, told=0)).samples == len(WAVE)
    with pytest.raises(UnreadableInput):
        read_sound(data[: len(data) // 2])


class Stand(types.ModuleType):
    """What `soundfile` does with a file of `flac` above: enough for the reading around it."""

    def read(self, file: io.BytesIO, frames: int, dtype: str, always_2d: bool) -> tuple[Any, int]:
        data = file.read()
        assert dtype == "float32" and always_2d
        parts, at = [], 42
        while at < len(data):
            if data[at : at + 2] != b"\xff\xf8":
                raise RuntimeError("flac decoder lost sync")
            count = struct.unpack_from(">H", data, at + 5)[0] + 1
            if at + 11 + 2 * count > len(data):
                break
            parts.append(np.frombuffer(data, ">i2", count, at + 9))
            at += 11 + 2 * count
        values = np.concatenate(parts) if parts else np.zeros(0, ">i2")
        return (values[: frames if frames >= 0 else None, None] / 32768).astype(np.float32), 16_000

    def SoundFile(self, file: io.BytesIO) -> Any:  # noqa: N802 - soundfile's name
        values, _ = self.read(file, -1, "float32", True)
        rest = iter(np.split(values, range(40, len(values), 40)))

        def read(frames: int, dtype: str, always_2d: bool) -> Any:
            found = [next(rest, values[:0]) for _ in range(-(-frames // 40))]
            return np.concatenate(found)[:frames]

        return types.SimpleNamespace(read=read)


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", Stand("soundfile"))


@pytest.mark.usefixtures("stand")
def test_the_header_of_flac_and_what_is_read_by_it() -> None:
    data = flac(WAVE, rate=48_000)
    assert sound_size(data) == SoundSize(len(WAVE), 48_000)
    np.testing.assert_allclose(read_sound(data), WAVE, rtol=0, atol=2**-16 + 1e-7)
    assert len(read_sound(data, first=50)) == 50
    assert sound_size(flac(WAVE, told=0)) == SoundSize(len(WAVE), 16_000)
    assert len(read_sound(flac(WAVE, told=0), first=50)) == 50


@pytest.mark.usefixtures("stand")
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (flac(WAVE)[:20], "truncated FLAC"),
        (flac(tone(0.5))[:-4], "truncated FLAC"),
        (flac(WAVE[:0]), "no length"),
        (flac(WAVE, rate=300), "samples a second"),
        (flac(WAVE)[:42] + b"\0" * 50, "broken FLAC file: flac decoder lost sync"),
        (b"fLaC\x84" + flac(WAVE)[5:], "STREAMINFO"),
    ],
)
def test_broken_flac(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableInput, match=reason):
        sound_size(data)
        read_sound(data)
