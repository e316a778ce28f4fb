"""C2PA claims, in photos that are signed here."""

import datetime
import io
import json

import pytest
from PIL import Image

from phq_data.images.self_stated import read

c2pa = pytest.importorskip("c2pa")
x509 = pytest.importorskip("cryptography.x509")

from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402

MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def certificate(subject, key, issuer, signer, *, authority):
    now = datetime.datetime.now(datetime.UTC)
    organization, common = x509.NameOID.ORGANIZATION_NAME, x509.NameOID.COMMON_NAME

    def name(text):
        return x509.Name([x509.NameAttribute(common, text), x509.NameAttribute(organization, "Tests")])

    usage = x509.KeyUsage(not authority, False, False, False, False, authority, authority, False, False)
    built = (
        x509.CertificateBuilder()
        .subject_name(name(subject)).issuer_name(name(issuer)).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )  # fmt: skip
    if not authority:
        purpose = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION])
        built = built.add_extension(purpose, critical=False)
    return built.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def signed():
    """Signs a photo of these assertions."""
    root, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    chain = certificate("leaf", leaf, "root", root, authority=False)
    chain += certificate("root", root, "root", root, authority=True)
    key = leaf.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

    def make(*assertions):
        document = {"title": "t", "claim_generator_info": [{"name": "tests"}], "assertions": assertions}
        photo, out = io.BytesIO(), io.BytesIO()
        Image.new("RGB", (64, 64), (9, 90, 9)).save(photo, "JPEG")
        photo.seek(0)
        info = c2pa.C2paSignerInfo(b"es256", chain, key, None)
        with c2pa.Signer.from_info(info) as signer, c2pa.Builder(json.dumps(document)) as builder:
            builder.sign(signer, "image/jpeg", photo, out)
        return out.getvalue()

    return make


def created(kind):
    return {
        "label": "c2pa.actions",
        "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": f"{MEDIA}{kind}"}]},
    }


def training(**uses):
    entries = {f"cawg.{name}": {"use": use} for name, use in uses.items()}
    return {"label": "cawg.training-mining", "data": {"entries": entries}}


@pytest.mark.parametrize(
    "uses, out",
    [
        ({"ai_generative_training": "notAllowed", "data_mining": "allowed"}, True),
        ({"ai_training": "constrained"}, True),
        ({"ai_inference": "notAllowed"}, False),
        ({"ai_generative_training": "allowed", "ai_training": "allowed", "data_mining": "allowed"}, False),
    ],
)
def test_an_assertion_against_training_is_an_opt_out(signed, uses, out):
    found = read(signed(created("digitalCapture"), training(**uses)), "JPEG")
    assert bool(found.opt_out) == out and found.problem is None and found.generated == ""


def test_the_source_of_generated_media_is_told(signed):
    assert read(signed(created("trainedAlgorithmicMedia")), "JPEG").generated == "trainedAlgorithmicMedia"


def test_damaged_claims_and_a_missing_package_are_told(signed, monkeypatch):
    data = signed(created("trainedAlgorithmicMedia"))
    found = read(data.replace(b"jumd", b"jumX"), "JPEG")
    assert "cannot be read" in found.problem and found.generated == ""
    monkeypatch.setattr("phq_data.images.c2pa_claims.importlib.util.find_spec", lambda name: None)
    found = read(data, "JPEG")
    assert "phq-data[c2pa]" in found.problem and found.generated == ""
