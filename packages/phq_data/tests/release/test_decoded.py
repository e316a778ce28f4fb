import numpy as np

from phq_data.release.decoded import Decoded
from phq_data.schema import make_id

KEYS = sorted(
    [*(make_id("bytes", number) for number in range(50)), "ab" * 15 + "00", "00" * 16, "cd" + "00" * 15]
)


def test_digests_are_found_by_the_bytes_they_are_of():
    raw = np.frombuffer(bytes.fromhex("".join(KEYS)), np.uint8).reshape(-1, 16)
    pixels = np.random.default_rng(1).integers(0, 256, (len(KEYS), 2, 32), np.uint8)
    known = Decoded(raw.reshape(-1).view("S16"), pixels)
    for number, key in enumerate(KEYS):
        assert known.find(key) == (pixels[number, 0].tobytes(), pixels[number, 1].tobytes()), key
    assert known.find("ff" * 16) is None and known.find(make_id("others")) is None
    some = known.among(raw[[3, 0]])
    assert some.find(KEYS[3]) == known.find(KEYS[3]) and some.find(KEYS[0]) == known.find(KEYS[0])
    assert some.find(KEYS[4]) is None
