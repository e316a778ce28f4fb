"""Checkpoints, pickles and networks of others for `benchmarks.fuzz`."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np

from benchmarks.fuzz_target import Target, digest_of, file_reader, sealed
from benchmarks.onnx_bytes import onnx_network


def networks(folder: Path) -> list[Target]:
    """Checkpoints, weights and pickles; whole ones are made in `folder`."""
    import torch

    from phq_data.bodies.smpl_pickle import read_smpl_pickle, read_values
    from phq_data.weights import tensor_file
    from portraitgan.checkpoints import checkpoint
    from portraitgan.checkpoints.convert import convert
    from portraitgan.checkpoints.weights import make_discriminator, make_generator, read_tensors
    from portraitgan.inference.latents import Latent, load_latent, save_latent
    from portraitgan.metrics.faces import open_face_network
    from portraitgan.metrics.features import open_features
    from portraitgan.presets import tiny

    networks = {}
    for name, make in (("generator", make_generator), ("discriminator", make_discriminator)):
        networks[name] = networks[f"{name}_ema"] = make(tiny()).state_dict()
    state = checkpoint.State(1000, 125, "1", "abc", {"position": 1000})
    whole = checkpoint.save(
        folder / "run", checkpoint.Checkpoint(tiny(), state, networks, {"x": torch.ones(2)})
    )

    def of_checkpoint(data: bytes, place: Path) -> object:
        for source in whole.iterdir():
            if source.name != "state.json" and not (place / source.name).exists():
                os.link(source, place / source.name)
        return file_reader("state.json", lambda path: checkpoint.read_state(path.parent))(data, place)

    tensors = {"a": torch.arange(4.0), "b": torch.ones(2, 2, dtype=torch.float16)}
    sink, old = io.BytesIO(), io.BytesIO()
    torch.save(tensors, sink)
    torch.save(tensors, old, _use_new_zipfile_serialization=False)
    module = {"_parameters": {"w": torch.ones(3, 4)}, "_buffers": {"b": torch.zeros(2)}, "_modules": {}}
    official = pickle.dumps({"G_ema": {**module, "_modules": {"a": module}}, "D": module})
    arrays = {
        "v_template": np.zeros((4, 3)),
        "f": np.zeros((2, 3), np.uint32),
        "x": {"y": [1, 2.5, "z", None]},
    }
    save_latent(
        folder / "latent.safetensors", Latent(torch.ones(1, 4, 8), torch.ones(1, 25), None, {}, {}, {"a": 1})
    )
    from safetensors.torch import save

    def tensor_entries(path: Path) -> object:
        found = tensor_file.tensors_of(tensor_file.read(path)) or {}
        return [
            tensor_file.fitting(found.get(key), value, key, "x")
            for key, value in tensors.items()
            if key in found
        ]

    def smpl(path: Path) -> object:
        values = read_values(path)
        return values, read_smpl_pickle(path)

    packed = io.BytesIO()
    with zipfile.ZipFile(sink) as held, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as tighter:
        for name in held.namelist():
            tighter.writestr(name, held.read(name))

    def faces(path: Path) -> object:
        return open_face_network(path).embed(torch.zeros(1, 3, 112, 112))

    return [
        Target("onnx", (onnx_network(), onnx_network("w.bin")), file_reader("n.onnx", faces)),
        Target("inception", (sink.getvalue(), packed.getvalue()), file_reader("i.pth", open_features)),
        Target("state.json", ((whole / "state.json").read_bytes(),), of_checkpoint, sealed(digest_of)),
        Target(
            "official pickle",
            (official, pickle.dumps({"G_ema": module}, 2)),
            file_reader("o.pkl", lambda path: convert(path, path.with_name("out"))),
        ),
        Target("body pickle", (pickle.dumps(arrays), pickle.dumps(arrays, 2)), file_reader("s.pkl", smpl)),
        Target(
            "torch file",
            (sink.getvalue(), old.getvalue(), packed.getvalue()),
            file_reader("t.pth", tensor_entries),
        ),
        Target("safetensors", (save(tensors),), file_reader("t.safetensors", read_tensors)),
        Target(
            "latent",
            ((folder / "latent.safetensors").read_bytes(),),
            file_reader("l.safetensors", load_latent),
        ),
    ]
