"""What a release says about itself in words: one source for the card, the datasheet and the RAI fields.

Statements are made from what the release knows. What nobody recorded is said to be unknown.
"""

from __future__ import annotations

from phq_data.release import rights
from phq_data.release.manifest import Manifest
from phq_data.release.stats import RENDERS, Summary
from phq_data.text import counted

BY_SHARE_ALIKE = "CC-BY-SA"


def summary_sentence(manifest: Manifest, summary: Summary) -> str:
    """What the release is, in one sentence."""
    kind = "reviewed by people" if manifest.reviewed else "NOT reviewed by people"
    portraits, photos = counted(summary.rows, "aligned portrait"), counted(summary.photos, "photo")
    labels = "a camera label, a neck and head pose and a mask"
    return f"{portraits} of people from {photos}, each with {labels}; {kind}."


def rai(manifest: Manifest, summary: Summary) -> dict[str, str | list[str]]:
    """The Croissant RAI properties (without prefix) and what holds for this release."""
    review = manifest.about["review"]
    consensus = review["consensus"]
    providers = ", ".join(f"{name} ({count:,})" for name, count in summary.providers.items())
    pitch = summary.pitch_degrees
    found: dict[str, str | list[str]] = {
        "dataCollection": (
            "Photos were taken in from the providers below with provenance and license of each. People "
            "were found by a key-point network, a body model was fitted to the key points, and the "
            "portrait was cut so that the camera label holds. Images that failed automatic checks were "
            "left out with a recorded reason."
        ),
        "dataCollectionType": _collection_types(summary),
        "dataCollectionRawData": f"Portraits by provider: {providers}.",
        "dataCollectionMissingData": (
            "Columns that are null were not known: author, title, license page, the day the photo was taken. "
            + (
                "Images are left out because they may not be published; phq release fill fetches them again."
                if manifest.images == "none"
                else "No image is missing."
            )
        ),
        "dataPreprocessingProtocol": [
            "EXIF orientation and color profile are applied; images are resampled once from the raw photo.",
            "What lies outside the photo is a faded reflection; the column 'padding' says how much of the "
            "image.",
            "Near-duplicates are reduced to one; splits keep photos, near-duplicates, one author's images "
            "of a day, and sessions of own photos together.",
        ],
        "dataManipulationProtocol": "No image was retouched; faces are not blurred.",
        "dataImputationProtocol": (
            "Cameras and poses are estimates of a fit, not measurements; the column 'error_probability' says "
            "how "
            "unsure one is. "
            + (
                f"{summary.corrected:,} labels were corrected by people (column 'corrected_from'). "
                if summary.corrected
                else ""
            )
            + (
                f"{summary.truth:,} rows also have the truth."
                if summary.truth
                else "No row has a known truth."
            )
        ),
        "dataAnnotationProtocol": (
            "Labels are made by machine. Reviewers accept or reject a portrait by whether the body mesh "
            "lies on the person's shoulders and whether the image is sharp; a portrait counts as "
            f"accepted when at least {review['min_votes']} reviewer(s) voted and more than "
            f"{review['min_share']:.0%} accepted it."
        )
        if manifest.reviewed
        else "Labels are made by machine and were NOT reviewed by people.",
        "dataAnnotationPlatform": ["PHQ review"] if manifest.reviewed else ["none"],
        "dataAnnotationAnalysis": [
            "Consensus over all decisions: "
            + (", ".join(f"{count:,} {state}" for state, count in consensus.items()) or "no decisions")
            + "."
        ],
        "annotationsPerItem": f"at least {review['min_votes']}" if manifest.reviewed else "0",
        "annotatorDemographics": ["Not recorded."],
        "machineAnnotationTools": _tools(manifest, summary),
        "dataBiases": [
            f"Views: {', '.join(f'{name} {count:,}' for name, count in summary.octants.items())}; "
            f"elevation between {pitch.get('p05', 0):.0f} and {pitch.get('p95', 0):.0f} degrees for 90 % "
            "of the portraits.",
            "Who is in the photos follows from who is photographed and published by the providers. Age, "
            "gender, skin color and origin were not annotated, so their balance is unknown.",
        ],
        "dataLimitations": [
            "Camera labels hold for a pinhole camera at a fixed distance; perspective of close-ups is not "
            "kept.",
            "Not fit for recognising, identifying or classifying people.",
        ],
        "dataUseCases": [
            "Training and evaluating 3D-aware generators of portraits; estimating views and head poses."
        ],
        "dataSocialImpact": (
            "Generators trained on portraits can be misused for deception and can repeat the imbalance of "
            "the data. Do not make images of real people without their consent."
        ),
        "personalSensitiveInformation": [
            "The images show people's faces. Photographers are named where their license asks for it.",
            consent_sentence(summary),
            age_sentence(manifest, summary),
        ],
        "dataReleaseMaintenancePlan": (
            "Versions are semantic: MAJOR when a row was removed or changed, MINOR when rows were added, "
            "PATCH when only the packaging changed; published versions never change. Whoever is shown in "
            "an image or made it can have it taken down: it goes into tombstones.json, which every PHQ "
            "reader honours at once, and out of the next version."
        ),
    }
    if summary.days is not None:
        found["dataCollectionTimeFrame"] = list(summary.days)
    return found


def consent_sentence(summary: Summary) -> str:
    """What is recorded of the consent of the people shown."""
    told = {
        "yes": "{} show people who agreed",
        "no": "{} show people who do not agree",
        "unknown": "of {} nobody recorded whether the people shown agree",
        RENDERS: "{} are renders and show nobody",
    }
    found = [
        text.format(f"{summary.consent[name]:,}") for name, text in told.items() if name in summary.consent
    ]
    return f"Consent (column 'consent'): {'; '.join(found) or 'nothing is recorded'}."


def age_sentence(manifest: Manifest, summary: Summary) -> str:
    """Whether minors were screened for (column `age_screen`), how, and what came of it."""
    if not summary.ages:
        return "Age: no screen for minors was run, and no model estimated anybody's age."
    screen = (manifest.about["config"] or {}).get("screen", {})
    adults, unsure = summary.ages.get("adult", 0), summary.ages.get("unsure", 0)
    unscreened = summary.rows - sum(summary.ages.values())
    told = [f"{adults:,} show people whom it took for adults (from {screen.get('adult_from', 0):g} years on)"]
    if unsure:
        kept = " or they were kept without a face to judge" if screen.get("age_unseen") == "keep" else ""
        told.append(f"of {unsure:,} it was not sure: a person accepted them{kept}")
    if unscreened:
        told.append(f"{unscreened:,} were not screened")
    return (
        "Age (column 'age_screen'): a network that the dataset's maker chose estimated ages to screen for "
        f"minors. {'; '.join(told)}. Whom it took for minors (below {screen.get('minor_below', 0):g} years) "
        "was left out. Such a network errs: this is no proof that only adults are shown."
    )


def license_name(summary: Summary) -> str:
    """Hugging Face's identifier of the release's license: one license if it covers every row, else other."""
    names = {name.upper() for name in summary.licenses}
    if names <= {"CC0-1.0", "PD", "PDM-1.0"}:
        return "cc0-1.0"
    if names <= {"CC0-1.0", "PD", "PDM-1.0", "CC-BY-4.0"}:
        return "cc-by-4.0"
    if names == {"CC-BY-SA-4.0"}:
        return "cc-by-sa-4.0"
    return "other"


def license_urls(summary: Summary) -> list[str]:
    """The pages of the rows' licenses, as far as they are free ones."""
    return [url for url in (rights.license_url(name) for name in summary.licenses) if url]


def _collection_types(summary: Summary) -> list[str]:
    kinds = {
        "folder": "Secondary Data analysis",
        "samples": "Secondary Data analysis",
        "synthetic": "Software Collection",
    }
    return sorted({kinds.get(provider, "Web API") for provider in summary.providers})


def _screened(model: str, summary: Summary) -> bool:
    return bool(summary.ages) and model.startswith("age-")


def _tools(manifest: Manifest, summary: Summary) -> list[str]:
    """The models by role, with the license of those that are not shipped with PHQ."""
    terms = {
        name: " (" + ", ".join(filter(None, (one["title"], f"license {one['license']}", one["source"]))) + ")"
        for name, one in manifest.about.get("model_terms", {}).items()
    }
    tools = {f"screen for minors: {name}{text}" for name, text in terms.items() if _screened(name, summary)}
    for models in summary.models:
        if isinstance(models, dict):
            tools |= {f"{role}: {name}{terms.get(name, '')}" for role, name in models.items()}
        else:
            tools.add(str(models))
    return sorted(tools) or ["unknown"]
