"""Correcting labels in a real browser: the rig moves as in Python, and what is saved is what was seen."""

import base64
import json

import httpx
import numpy as np
import pytest
from browser import LAPTOP, PHONE, decide, until, wait_ready, wait_saved
from served import Served, set_policy

from benchmarks.review_fixtures import make_workspace
from phq_data import camera
from phq_data.bodies.anny import default_rig
from phq_data.review.decisions import ulid
from phq_data.review.images import mesh

MODULES = """async data => {
  const page = await (await fetch("/")).text();
  const folder = page.match(/src="([^"]*)review.js"/)[1];
  const [{ Rig, axisAngle, rotation }, label, { RigPainter }] = await Promise.all(
    ["rig", "rig_label", "rig_gl"].map(name => import(`${folder}${name}.js`)));
  const rig = new Rig(Uint8Array.from(atob(data), letter => letter.charCodeAt(0)).buffer);
  window.rigTest = { rig, axisAngle, rotation, ...label, RigPainter };
}"""
POSE = [0.2, -0.3, 0.1, -0.15, 0.4, 0.25]
OPEN = "document.querySelector('.correct-page:not([hidden]) b')?.textContent"
STEP = np.radians(4.0)  # of a key


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("correct") / "workspace"
    make_workspace(folder, 48, size=256)
    set_policy(folder, overlap_share=0.0, gold_share=0.0)
    with Served(folder) as started:
        yield started


@pytest.fixture
def page(browser, service):
    context = browser.new_context(viewport=LAPTOP, service_workers="block")
    opened = context.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.goto(service.url)
    yield opened
    context.close()
    assert problems == []


@pytest.fixture(scope="module")
def tools(browser, service):
    """A page that has the modules of the rig as `rigTest`."""
    opened = browser.new_page()
    opened.goto(f"{service.url}/api/health")
    opened.evaluate(MODULES, base64.b64encode(default_rig().to_bytes()).decode())
    yield opened
    opened.close()


def a_label(yaw=0.6, pitch=0.2, roll=0.1, window=(100.0, 50.0, 800.0)):
    flat = camera.to_label(camera.from_angles(yaw, pitch, roll)).astype(float).tolist()
    return {"camera": flat, "pose": POSE, "window": list(window)}


def angles_of(label):
    """Yaw, pitch, roll in radians of the portrait that such a label becomes."""
    pose, _ = camera.from_label(label["camera"])
    centred = camera.look_from(pose[:3, 3], -pose[:3, 1])
    return np.array([float(angle) for angle in camera.angles(centred)])


def opened(page):
    """Open the correction of the portrait shown; returns its id."""
    portrait = wait_ready(page)
    page.keyboard.press("c")
    until(page, OPEN)
    return portrait


def saved_labels(service, portrait):
    """Kinds and labels of the corrections of a portrait, oldest first."""
    rows = service.query(
        "SELECT kind, to_label FROM corrections WHERE portrait_id = ? ORDER BY seq", portrait
    )
    return [(kind, None if label is None else json.loads(label)) for kind, label in rows]


# ---- the rig ------------------------------------------------------------------------------------------


def test_the_page_poses_the_rig_as_python_does(tools):
    rig = default_rig()
    found = tools.evaluate("pose => [...rigTest.rig.posed(pose)]", POSE)
    assert np.allclose(np.reshape(found, (-1, 3)), rig.posed(POSE), atol=1e-6)
    landmarks = tools.evaluate("pose => [...rigTest.rig.posedLandmarks(pose)]", POSE)
    assert np.allclose(np.reshape(landmarks, (-1, 3)), rig.posed_landmarks(POSE), atol=1e-6)
    for axis in ([0.1, 0.2, -0.3], [0, 0, 0], [np.pi, 0, 0], [0, 2.2, -2.2]):
        again = tools.evaluate("axis => rigTest.axisAngle(rigTest.rotation(axis))", axis)
        assert np.allclose(again, axis, atol=1e-6)


def test_points_and_angles_are_those_of_the_camera_label(tools):
    label, point = a_label(), [0.1, 0.05, 0.2]
    at = tools.evaluate("([label, point]) => rigTest.projected(label, point)", [label, point])
    image, _ = camera.project([point], *camera.from_label(label["camera"]))
    assert np.allclose(at, image[0] * 800 + [100, 50], atol=1e-3)
    found = tools.evaluate("label => rigTest.angles(label)", label)
    assert np.allclose([found[name] for name in ("yaw", "pitch", "roll")], [0.6, 0.2, 0.1], atol=1e-6)


def test_moves_change_what_they_say_and_nothing_else(tools):
    label = a_label(roll=0.0)
    before = angles_of(label)

    def after(move):
        return tools.evaluate(f"label => {{ with (rigTest) {{ return {move}; }} }}", label)

    assert np.allclose(angles_of(after("turned(label, { yaw: 0.3 })")) - before, [0.3, 0, 0], atol=1e-6)
    assert np.allclose(angles_of(after("turned(label, { pitch: 0.1 })")) - before, [0, 0.1, 0], atol=2e-3)
    assert np.allclose(angles_of(after("turned(label, { roll: 0.1 })")) - before, [0, 0, 0.1], atol=6e-3)
    assert np.allclose(angles_of(after("flipped(label)")), before * [-1, 1, 1], atol=1e-6)
    turned = angles_of(after("turnedAround(label)"))
    assert np.isclose(abs(turned[0] - before[0]), np.pi) and np.isclose(turned[1], before[1])
    neck = np.zeros(3)

    def seen(one):
        image, depth = camera.project([neck], *camera.from_label(one["camera"]))
        return image[0], depth[0]

    (here, near), (moved, _) = seen(label), seen(after("shifted(label, 0.05, -0.02)"))
    assert np.allclose(moved - here, [0.05, -0.02], atol=1e-6)
    place, nearer = seen(after("scaled(label, 1.25)"))
    assert np.allclose(place, here, atol=1e-6) and np.isclose(near / nearer, 1.25)
    bent = after("bent(label, 'neck', { yaw: 0.2 })")
    assert bent["camera"] == label["camera"] and bent["pose"][3:] == POSE[3:] and bent["pose"] != POSE


@pytest.mark.parametrize("mode", ["fill", "outline", "wire"])
def test_the_drawn_rig_lies_where_the_service_draws_it(tools, mode):
    label, side = a_label(), 300
    alpha = tools.evaluate(
        """([label, mode, side]) => {
          const canvas = document.createElement("canvas");
          const painter = new rigTest.RigPainter(canvas, { kept: true });
          painter.setRig(rigTest.rig);
          painter.clear(side, side);
          painter.draw(label, label.window, [0, 0, side, side], { mode });
          const flat = new OffscreenCanvas(side, side).getContext("2d");
          flat.drawImage(canvas, 0, 0);
          return [...flat.getImageData(0, 0, side, side).data.filter((_, at) => at % 4 === 3)];
        }""",
        [label, mode, side],
    )
    drawn = np.reshape(alpha, (side, side)) > 127
    wanted = mesh(default_rig(), label["camera"], POSE, side)[..., 3] > 127
    if mode == "fill":
        assert (drawn & wanted).sum() / (drawn | wanted).sum() > 0.995
        return
    assert 0.005 < drawn.mean() < 0.6 * wanted.mean()  # lines, not an area
    grown = np.zeros_like(wanted)
    for down in range(-4, 5):
        for across in range(-4, 5):
            grown |= np.roll(wanted, (down, across), (0, 1))
    assert (drawn & ~grown).sum() == 0


# ---- the page ------------------------------------------------------------------------------------------


def test_what_the_keys_moved_is_saved_and_u_takes_it_back(page, service):
    portrait = opened(page)
    old = page.evaluate("id => fetch(`/api/portraits/${id}/label`).then(r => r.json())", portrait)["label"]
    for key in ("ArrowLeft", "ArrowLeft", "Shift+ArrowLeft", "KeyD"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    assert wait_ready(page, other_than=portrait)
    wait_saved(page)
    [(kind, label)] = saved_labels(service, portrait)
    assert kind == "correct" and service.log() == []  # no decision
    change = angles_of(label) - angles_of(old)
    assert np.isclose(change[0], 2.25 * STEP, atol=0.01)  # a shift turns the view a little, too
    assert label["window"] == old["window"] and label["pose"] == old["pose"]
    assert page.inner_text("#done") == "1"
    page.keyboard.press("u")
    until(page, "id => document.body.dataset.ready === id", portrait)
    wait_saved(page)
    assert [kind for kind, _ in saved_labels(service, portrait)] == ["correct", "undo"]


def test_undo_redo_reset_and_a_draft(page, service):
    portrait = opened(page)
    saved = saved_labels(service, portrait)  # of other tests
    yaw = "document.querySelector('.correct-numbers b').textContent"
    shown = page.evaluate(yaw)

    def after(key, wanted):
        page.keyboard.press(key)
        until(page, f"wanted => {yaw} === wanted", wanted)

    page.keyboard.press("ArrowRight")
    until(page, f"old => {yaw} !== old", shown)
    moved = page.evaluate(yaw)
    for key, wanted in (("u", shown), ("y", moved), ("r", shown), ("u", moved)):  # a reset is a step, too
        after(key, wanted)
    page.keyboard.press("Escape")
    assert page.is_hidden("#correct") and saved_labels(service, portrait) == saved
    page.keyboard.press("c")
    until(page, OPEN)
    until(page, f"wanted => {yaw} === wanted", moved)
    assert "draft" in page.inner_text(".correct-note")
    page.keyboard.press("r")
    page.keyboard.press("Escape")  # nothing is moved: no draft stays
    assert not page.evaluate("Object.keys(localStorage).some(name => name.includes('draft'))")


def test_keys_of_the_loop_decide_nothing_while_a_label_is_corrected(page, service):
    service.mark()
    portrait = opened(page)
    for key in ("x", "a", "f", "1", "s", "q"):
        page.keyboard.press(key)
    page.keyboard.press("Escape")
    assert wait_ready(page) == portrait
    wait_saved(page)
    assert service.log() == []


def test_mouse_and_two_fingers_move_the_rig(page):
    opened(page)
    box = page.locator(".correct-plane").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    away = "Number.parseFloat(document.querySelectorAll('.correct-numbers b')[3].textContent)"
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y, steps=4)
    page.mouse.up()
    until(page, f"{away} > 15 && {away} < 30")
    page.keyboard.press("u")  # a drag is one step
    until(page, f"{away} === 0")
    twist = """() => {
      const picture = document.querySelector(".correct-picture");
      picture.setPointerCapture = () => {};
      const box = picture.getBoundingClientRect();
      const at = (x, y) => ({ clientX: box.left + box.width / 2 + x, clientY: box.top + box.height / 2 + y });
      const send = (name, id, x, y) => picture.dispatchEvent(
        new PointerEvent(name, { pointerId: id, pointerType: "touch", bubbles: true, ...at(x, y) }));
      send("pointerdown", 7, -80, 0);
      send("pointerdown", 8, 80, 0);
      send("pointermove", 8, 78, 28);
      send("pointerup", 7, -80, 0);
      send("pointerup", 8, 78, 28);
    }"""
    page.evaluate(twist)
    until(page, f"{away} > 8 && {away} < 12")  # atan(28 / 158)


def test_a_correction_waits_for_the_network_over_a_reload(page, service):
    portrait = opened(page)
    saved = saved_labels(service, portrait)
    page.keyboard.press("ArrowLeft")
    page.context.set_offline(True)
    page.keyboard.press("Enter")
    until(page, "window.phqReview.waiting() === 1")
    assert saved_labels(service, portrait) == saved
    page.context.set_offline(False)
    page.reload()
    wait_saved(page)
    assert [kind for kind, _ in saved_labels(service, portrait)[len(saved) :]] == ["correct"]
    now = wait_ready(page)
    assert now != portrait  # it is not asked for again
    decide(page, "a")
    page.reload()
    wait_ready(page)
    for undone in (now, portrait):  # in the order they were made, also after a reload
        page.keyboard.press("u")
        until(page, "id => document.body.dataset.ready === id", undone)
    wait_saved(page)
    assert [kind for kind, _ in saved_labels(service, portrait)[len(saved) :]] == ["correct", "undo"]


def test_snap_and_hypotheses_come_from_the_service(page):
    there = a_label(yaw=1.0)

    def answer(route):
        route.fulfill(json={"label": there, "residual": 0.05, "yaw_moved": 0.2})

    page.route("**/snap", answer)
    opened(page)
    page.keyboard.press("g")
    until(page, "document.querySelector('.correct-note').textContent.startsWith('Snapped')")
    assert page.inner_text(".correct-numbers dd:nth-of-type(1) b").startswith("57.3")
    page.keyboard.press("Digit1")  # the fixture's fits have none
    until(page, "document.querySelector('.correct-note').textContent.includes('no further hypothesis')")


def test_a_label_that_cannot_be_corrected_says_why(page):
    def answer(route):
        found = route.fetch().json()
        route.fulfill(json={**found, "correctable": False, "why": "the original photo cannot be read"})

    page.route("**/label", answer)
    wait_ready(page)
    page.keyboard.press("c")
    until(page, "document.getElementById('toast').textContent.includes('original photo cannot be read')")
    assert page.evaluate("document.getElementById('correct') === null")


def test_buttons_are_large_enough_for_fingers_and_nothing_is_cut_off(page):
    page.set_viewport_size(PHONE)
    opened(page)
    buttons = page.evaluate(
        "[...document.querySelectorAll('#correct button')].filter(one => one.offsetParent)"
        ".map(one => [one.title, one.getBoundingClientRect()])"
    )
    assert len(buttons) > 30
    small = [
        (title, box)
        for title, box in buttons
        if box["width"] < 44 or box["height"] < 44 or box["left"] < 0 or box["right"] > 390
    ]
    assert small == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 683, "height": 384})  # a laptop at 200 %
    until(page, "document.querySelector('.correct-plane').clientHeight >= 399")


def test_nothing_lies_over_the_person_when_a_slow_correction_has_opened(page):
    wait_ready(page)

    def later(route):
        page.wait_for_timeout(1200)
        route.continue_()

    page.route("**/api/portraits/*/label", later)
    page.keyboard.press("c")
    page.locator("#toast", has_text="Opening").wait_for()
    until(page, OPEN)
    assert page.locator("#toast").is_hidden()


def test_where_frames_take_long_a_moving_rig_is_drawn_half_as_sharp(page):
    opened(page)
    side = (
        "[document.querySelector('.correct-rig').width, document.querySelector('.correct-rig').clientWidth]"
    )
    page.evaluate(  # every frame takes 60 ms
        """const ask = window.requestAnimationFrame.bind(window);
        window.requestAnimationFrame = (draw) => ask((time) => {
          for (const end = performance.now() + 60; performance.now() < end;);
          if (typeof draw === "function") draw(time);
        })"""
    )
    for _ in range(12):
        page.keyboard.down("ArrowLeft")
        page.wait_for_timeout(90)
    moving, shown = page.evaluate(side)
    page.keyboard.up("ArrowLeft")
    page.wait_for_timeout(600)
    resting, _ = page.evaluate(side)
    assert abs(moving - shown / 2) <= 1
    assert abs(resting - shown) <= 1


def test_the_loop_draws_sharp_meshes_as_fill_outline_and_wire(page):
    wait_ready(page)
    sharp = """() => {
      const mesh = document.querySelector("#stage canvas.mesh");
      return mesh !== null && Math.abs(mesh.width - mesh.clientWidth * devicePixelRatio) < 8;
    }"""
    until(page, sharp)
    for mode in ("outline", "wire", "fill"):
        page.keyboard.press("KeyL")
        until(page, "mode => document.querySelector('#stage canvas.mesh').classList.contains(mode)", mode)
    page.keyboard.press("z")  # closer: drawn again in more pixels
    until(page, "document.querySelector('#stage canvas.mesh').width > 1000")
    page.keyboard.press("KeyL")
    decide(page, "s")
    until(page, "document.querySelector('#stage canvas.mesh').classList.contains('outline')")


def test_without_webgl_the_loop_shows_the_services_meshes_and_c_says_why(browser, service):
    context = browser.new_context(viewport=LAPTOP)
    context.add_init_script(
        "for (const kind of [HTMLCanvasElement, OffscreenCanvas]) {"
        " const own = kind.prototype.getContext;"
        " kind.prototype.getContext = function (name, ...more) {"
        "  return name.startsWith('webgl') ? null : own.call(this, name, ...more); }; }"
    )
    page = context.new_page()
    page.goto(service.url)
    wait_ready(page)
    until(page, "document.querySelector('#stage img.mesh')?.naturalWidth === 384")
    page.keyboard.press("c")
    until(page, "document.getElementById('toast').textContent.includes('no WebGL')")
    context.close()


# ---- leads ----------------------------------------------------------------------------------------------


def correct_as(service, name, portrait, yaw):
    """Another reviewer corrects a label over the API, turning it by `yaw` radians."""
    headers = {"X-PHQ": "2"}
    with httpx.Client(base_url=service.url, headers=headers, trust_env=False, timeout=60) as client:
        assert client.post("/api/login", json={"name": name, "password": ""}).status_code == 200
        label = client.get(f"/api/portraits/{portrait}/label").json()["label"]
        turn, flat = np.eye(4), np.array(label["camera"])
        turn[:3, :3] = [[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]]
        flat[:16] = (turn @ flat[:16].reshape(4, 4)).ravel()
        one = {"correction_id": ulid(), "kind": "correct", "portrait_id": portrait, "client": "test"}
        one["label"] = {**label, "camera": flat.tolist()}
        answer = client.post("/api/corrections", json={"corrections": [one]}).json()
        assert answer["saved"] == [one["correction_id"]], answer


def rows_of(service, portrait):
    statement = "SELECT reviewer, kind, client FROM corrections WHERE portrait_id = ? ORDER BY seq"
    return service.query(statement, portrait)


def save(page):
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#correct').hidden")
    wait_saved(page)


def test_a_lead_corrects_what_others_corrected_and_takes_the_own_back(page, service):
    portrait = wait_ready(page)
    correct_as(service, "bo", portrait, 0.02)
    opened(page)
    assert page.inner_text(".correct-note") == ""  # somebody else's correction is not one's own
    assert page.is_hidden("text=Take back my correction")
    save(page)
    assert [row[:2] for row in rows_of(service, portrait)][-2:] == [("bo", "correct"), ("ann", "correct")]
    page.evaluate("id => window.phqReview.recall(id)", portrait)
    until(page, "id => document.body.dataset.ready === id", portrait)
    opened(page)
    assert "Your correction is shown" in page.inner_text(".correct-note")
    page.click("text=Take back my correction")
    wait_saved(page)
    assert [row[:2] for row in rows_of(service, portrait)][-1] == ("ann", "undo")
    assert page.is_hidden("#banner")
    decide(page, "s")


def test_a_draft_stays_until_the_correction_is_delivered(page, service):
    portrait = opened(page)
    stale = {"saved": [], "known": []}

    def refuse(route):
        sent = json.loads(route.request.post_data)["corrections"]
        no = [{"correction_id": one["correction_id"], "why": "no", "elsewhere": True} for one in sent]
        route.fulfill(json={**stale, "refused": no})

    drafts = "Object.keys(localStorage).filter(name => name.includes('draft')).length"
    page.route("**/api/corrections", refuse)
    save(page)
    until(page, "!document.getElementById('banner').hidden")
    assert page.evaluate(drafts) == 1
    page.unroute("**/api/corrections")
    page.click("#banner-button")  # look at it
    until(page, "id => document.body.dataset.ready === id", portrait)
    opened(page)
    assert "Your draft is shown" in page.inner_text(".correct-note")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#correct').hidden")
    wait_saved(page)
    until(page, f"{drafts} === 0")
    assert rows_of(service, portrait)[-1][:2] == ("ann", "correct")


def test_a_leads_correction_settles_a_dispute(page, service):
    portrait = wait_ready(page)
    correct_as(service, "bo", portrait, 0.5)
    correct_as(service, "cy", portrait, -0.5)
    opened(page)
    assert "your correction settles the dispute" in page.inner_text(".correct-note")
    save(page)
    reviewer, kind, client = rows_of(service, portrait)[-1]
    assert (reviewer, kind) == ("ann", "correct") and client.startswith("adjudication/phq-review-page")
    found = httpx.get(f"{service.url}/api/portraits/{portrait}/label", trust_env=False).json()
    assert (found["state"], found["waits"]) == ("holds", True)
