"""Who may do what, and what must not be possible."""

import json
import urllib.parse

import pytest
from fastapi.testclient import TestClient

from annotator_app.service import AccessError, ServiceSettings, create_app
from annotator_app.service.security import host_allowed
from phq_data.review import reviewers

from .conftest import HEADERS, decide, decision, queue

PASSWORD = "correct horse battery"


def invited(client, name, role="reviewer"):
    return reviewers.invite(client.app.state.store, name, role)


def as_(client, token):
    return {"Authorization": f"Bearer {token}"}


# ---- starting --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "review.example.org"])
def test_others_can_reach_it_only_with_a_password_or_invitations(folder, host):
    with pytest.raises(AccessError, match="can be reached by other computers"):
        create_app(ServiceSettings(str(folder), host=host))
    with pytest.raises(AccessError, match="at least 8"):
        create_app(ServiceSettings(str(folder), host=host, password="short"))
    create_app(ServiceSettings(str(folder), host=host, password=PASSWORD)).state.phq.stop()


def test_an_invitation_is_enough_to_start_beyond_loopback(folder):
    from phq_data.review.store import Store
    from phq_data.workspace import Workspace

    store = Store.open(Workspace.open(folder))
    reviewers.invite(store, "Ada")
    store.close()
    create_app(ServiceSettings(str(folder), host="0.0.0.0")).state.phq.stop()


# ---- logging in ------------------------------------------------------------------------------------------


@pytest.fixture
def team(start):
    return start(host="0.0.0.0", password=PASSWORD)


EVERYTHING = [
    ("GET", "/api/portraits/" + "0" * 32 + "/camera"),
    ("GET", "/api/me"), ("GET", "/api/settings"), ("GET", "/api/history"), ("GET", "/api/stats"),
    ("GET", "/api/agreement"), ("GET", "/api/adjudication"), ("GET", "/api/gallery"), ("GET", "/api/triage"),
    ("GET", "/api/reviewers"), ("GET", "/api/items/" + "0" * 32), ("GET", "/img/" + "0" * 32 + "/crop"),
    ("POST", "/api/queue/next"), ("POST", "/api/queue/release"), ("POST", "/api/decisions"),
    ("POST", "/api/triage/accept"), ("POST", "/api/policy"), ("POST", "/api/gold"),
    ("POST", "/api/reviewers"), ("GET", "/api/rig/" + "0" * 12), ("POST", "/api/corrections"),
    ("GET", "/api/portraits/" + "0" * 32 + "/label"), ("POST", "/api/portraits/" + "0" * 32 + "/snap"),
]  # fmt: skip


def test_nothing_is_told_without_a_login(team):
    for method, path in EVERYTHING:
        answer = team.request(method, path, json={} if method == "POST" else None)
        assert answer.status_code == 401, (path, answer.text)


def test_every_route_is_in_the_list_above(team):
    described = team.app.openapi()["paths"]
    routes = {(method.upper(), path) for path, methods in described.items() for method in methods}
    open_to_all = {("POST", "/api/login"), ("POST", "/api/logout")}
    names = {"0" * 32: "{portrait_id}", "rig/" + "0" * 12: "rig/{rig_version}", "/crop": "/{kind}"}
    listed = set()
    for method, path in EVERYTHING:
        for example, name in names.items():
            path = path.replace(example, name)
        listed.add((method, path))
    assert routes - open_to_all == listed


def test_the_password_lets_in_and_the_cookie_is_for_this_site_only(team):
    assert team.post("/api/login", json={"name": "Bo", "password": "wrong wrong"}).status_code == 401
    answer = team.post("/api/login", json={"name": "Bo", "password": PASSWORD})
    assert answer.json()["name"] == "Bo" and answer.json()["role"] == "reviewer"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert team.get("/api/me").json()["name"] == "Bo"
    team.post("/api/logout")
    assert team.get("/api/me").status_code == 401


def test_a_stolen_cookie_is_worthless_after_logout(team):
    team.post("/api/login", json={"name": "Bo", "password": PASSWORD})
    stolen = team.cookies["phq_session"]
    team.post("/api/logout")
    assert team.get("/api/me", headers={"Cookie": f"phq_session={stolen}"}).status_code == 401


def test_a_token_logs_in_with_its_role_until_a_new_one_is_given(team):
    token = invited(team, "Ada", "lead")
    assert team.post("/api/login", json={"token": token}).json() | {"workspace": ""} == {
        "name": "Ada", "role": "lead", "login": True, "workspace": "",
    }  # fmt: skip
    team.post("/api/logout")
    newer = invited(team, "Ada", "reviewer")
    assert team.post("/api/login", json={"token": token}).status_code == 401
    assert team.get("/api/me", headers=as_(team, newer)).json()["role"] == "reviewer"
    reviewers.disable(team.app.state.store, "Ada")
    assert team.get("/api/me", headers=as_(team, newer)).status_code == 401


def test_nobody_takes_the_name_of_somebody_invited(team):
    invited(team, "Ada", "lead")
    answer = team.post("/api/login", json={"name": "Ada", "password": PASSWORD})
    assert answer.status_code == 422 and "invited with a token" in answer.json()["detail"]
    answer = team.post("/api/login", json={"name": "  Ada\u200b", "password": PASSWORD})
    assert answer.status_code == 422


def test_guessing_is_slowed_down(team):
    codes = [
        team.post("/api/login", json={"name": "Bo", "password": f"guess {i}"}).status_code for i in range(12)
    ]
    assert codes[:10] == [401] * 10 and codes[10:] == [429] * 2
    # Whoever was invited gets in all the same: the others may share his address.
    assert team.post("/api/login", json={"token": invited(team, "Ada")}).status_code == 200


def test_guessing_one_name_from_many_addresses_is_slowed_down(start):
    service = start(password=PASSWORD)
    codes = []
    for number in range(12):
        client = (f"10.0.0.{number}", 1)
        other = TestClient(service.app, base_url="http://127.0.0.1:8765", client=client, headers=HEADERS)
        given = {"name": " bo" if number % 2 else "Bo ", "password": f"guess {number}"}
        codes.append(other.post("/api/login", json=given).status_code)
    assert codes == [401] * 10 + [429] * 2
    given = {"name": "Cem", "password": "no guess"}
    assert service.post("/api/login", json=given).status_code == 401  # other names are not kept out


def test_tokens_and_cookies_are_not_stored_as_they_are(team, folder):
    token = invited(team, "Ada")
    team.post("/api/login", json={"token": token})
    cookie = team.cookies["phq_session"]
    team.app.state.store.database.engine.dispose()
    stored = b"".join(path.read_bytes() for path in (folder / "review").glob("review.sqlite*"))
    assert token.encode() not in stored and cookie.encode() not in stored and PASSWORD.encode() not in stored


# ---- roles -----------------------------------------------------------------------------------------------


def test_a_reviewer_sees_his_own_and_a_lead_everybodys(team):
    ada, bo, lea = (
        as_(team, invited(team, n, r)) for n, r in (("Ada", "reviewer"), ("Bo", "reviewer"), ("Lea", "lead"))
    )
    portrait = team.post("/api/queue/next", json={"count": 1}, headers=ada).json()["items"][0]["portrait_id"]
    one = decision(portrait, "reject", reason="blur")
    team.post("/api/decisions", json={"decisions": [one]}, headers=ada)
    assert team.get("/api/history?reviewer=Ada", headers=bo).status_code == 403
    assert team.get("/api/history?reviewer=*", headers=bo).status_code == 403
    assert len(team.get("/api/history?reviewer=*", headers=lea).json()["decisions"]) == 1
    tile = team.get("/api/gallery?state=rejected", headers=bo).json()["items"]
    assert all(vote["reviewer"] == "Bo" for one in tile for vote in one["votes"])
    assert [row["reviewer"] for row in team.get("/api/stats", headers=bo).json()["reviewers"]] == []
    for method, path, body in (
        ("GET", "/api/agreement", None), ("GET", "/api/adjudication", None), ("GET", "/api/reviewers", None),
        ("POST", "/api/policy", {"min_votes": 3}), ("POST", "/api/gold", {"verdicts": {portrait: "accept"}}),
        ("POST", "/api/reviewers", {"name": "Eve", "role": "lead"}),
    ):  # fmt: skip
        assert team.request(method, path, json=body, headers=ada).status_code == 403, path
        assert team.request(method, path, json=body, headers=lea).status_code == 200, path


def test_the_log_says_who_really_decided(team):
    ada = as_(team, invited(team, "Ada"))
    portrait = team.post("/api/queue/next", json={"count": 1}, headers=ada).json()["items"][0]["portrait_id"]
    forged = {**decision(portrait), "reviewer": "Lea"}
    assert team.post("/api/decisions", json={"decisions": [forged]}, headers=ada).status_code == 422
    adjudicated = decision(portrait, client="adjudication")
    answer = team.post("/api/decisions", json={"decisions": [adjudicated]}, headers=ada).json()
    assert answer["saved"] == [] and "only a lead" in answer["refused"][0]["why"]


def test_an_undo_never_touches_anothers_decision(team):
    ada, bo = (as_(team, invited(team, name)) for name in ("Ada", "Bo"))
    portrait = team.post("/api/queue/next", json={"count": 1}, headers=ada).json()["items"][0]["portrait_id"]
    team.post("/api/decisions", json={"decisions": [decision(portrait)]}, headers=ada)
    answer = team.post("/api/decisions", json={"decisions": [decision(portrait, "undo")]}, headers=bo).json()
    assert answer["saved"] == [] and "nothing to take back" in answer["refused"][0]["why"]


# ---- other sites -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"X-PHQ": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_changes_from_other_pages_are_refused(shared, headers):
    portrait = queue(shared, 1)[0]["portrait_id"]
    answer = shared.post("/api/decisions", json={"decisions": [decision(portrait)]}, headers=headers)
    assert answer.status_code == 403
    log = shared.get("/api/history").json()["decisions"]
    assert portrait not in {row["portrait_id"] for row in log}


def test_other_sites_cannot_make_the_browser_work_for_them(client):
    foreign = {"Sec-Fetch-Site": "cross-site"}
    portrait = queue(client, 1)[0]["portrait_id"]
    for path in ("/api/triage", "/api/history", f"/img/{portrait}/overlay"):
        assert client.get(path, headers=foreign).status_code == 403
    assert client.get("/", headers=foreign).status_code == 200


def test_a_form_of_another_page_cannot_decide(client):
    body = json.dumps({"decisions": [decision(queue(client, 1)[0]["portrait_id"])]})
    answer = client.post("/api/decisions", content=body, headers={"Content-Type": "text/plain", "X-PHQ": ""})
    assert answer.status_code == 403


def test_a_page_of_version_1_delivers_its_decisions_and_is_told_to_reload(client):
    portrait = queue(client, 1)[0]["portrait_id"]
    old = {"X-PHQ": "1"}
    body = {"decisions": [decision(portrait, order="doubt")]}
    assert client.post("/api/decisions", json=body, headers=old).json()["saved"]
    given = client.post("/api/queue/release", json={"portrait_ids": [portrait]}, headers=old)
    assert given.status_code == 200
    for path, asked in (
        ("/api/queue/next", {"order": "doubt"}),
        ("/api/policy", {"known_share": 0.1}),
        ("/api/known", {"answers": {portrait: "accept"}}),
    ):
        answer = client.post(path, json=asked, headers=old)
        assert answer.status_code == 409 and "reload it" in answer.json()["detail"]


def test_the_old_name_of_an_order_is_understood(client):
    answer = client.post("/api/queue/next", json={"order": "doubt", "count": 5}).json()["items"]
    found = [item["error_probability"] for item in answer]
    assert len(found) == 5 and found == sorted(found, reverse=True)


def test_our_own_origin_may(client):
    answer = client.post("/api/queue/next", json={}, headers={"Origin": "http://127.0.0.1:8765"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "192.168.1.5", ""]
)
def test_names_that_only_point_here_are_refused(shared, host):
    assert shared.get("/api/me", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost:8765", "127.0.0.1", "[::1]:8765", "LOCALHOST"])
def test_our_own_names_are_not(shared, host):
    assert shared.get("/api/me", headers={"Host": host}).status_code == 200


def test_hosts_of_a_team_service():
    settings = ServiceSettings("w", host="0.0.0.0", names=("review.lab",))
    assert host_allowed("review.lab", settings) and host_allowed("10.0.0.7:80", settings)
    assert not host_allowed("evil.example", settings)


PROXIES = ["X-Forwarded-For", "X-Forwarded-Proto", "X-Original-Forwarded-For", "Forwarded", "Via",
           "X-Real-IP", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP", "CDN-Loop",
           "Tailscale-User-Login", "Cf-Ray", "X-Original-URI", "X-Original-Host", "X-Scheme",
           "X-Real-Port", "X-Forward-For", "X_Forwarded_For", "Front-End-Https", "Max-Forwards",
           "X-Varnish", "X-Amzn-Trace-Id", "Ngrok-Auth-User-Email", "X-Arr-Log-Id",
           "X-Remote-User"]  # fmt: skip


@pytest.mark.parametrize("header", PROXIES)
def test_a_proxy_on_this_computer_does_not_open_it_to_the_world(shared, header):
    assert shared.get("/api/me", headers={header: "1.2.3.4"}).status_code == 401


def test_a_proxy_that_adds_nothing_is_known_by_its_old_http(start):
    service = start()
    status = []

    async def older(scope, receive, send):
        if scope["type"] == "http":
            scope = {**scope, "http_version": "1.0"}
        await service.app(scope, receive, send)

    for app in (older, service.app):
        asker = TestClient(app, base_url="http://127.0.0.1:8765", headers=HEADERS)
        status.append(
            (asker.get("/api/me").status_code, asker.post("/api/login", json={"name": "Bo"}).status_code)
        )
    assert status == [(401, 401), (200, 200)]


@pytest.mark.parametrize(
    "header", ["Accept", "Sec-Fetch-Site", "X-Requested-With", "Referer", "DNT", "Priority"]
)
def test_what_browsers_send_does_not_close_it(shared, header):
    assert shared.get("/api/me", headers={header: "none"}).status_code == 200


def test_pages_cannot_be_framed_or_sniffed_by_others(client):
    for path in ("/", "/login", "/api/me", "/api/docs"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].endswith("frame-ancestors 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


# ---- what is sent ----------------------------------------------------------------------------------------


PATHS = ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/workspace.json", "....//workspace.json",
         "%00", "C:\\windows", "f" * 32, "F" * 32, "0" * 31 + "g", "' OR '1'='1"]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["crop", "photo", "thumb", "overlay"])
def test_no_path_leads_out_of_the_workspace(shared, path, kind):
    for address in (f"/img/{path}/{kind}", f"/img/{urllib.parse.quote(path, safe='')}/{kind}"):
        answer = shared.get(address)
        assert answer.status_code in (404, 421), address
        assert b"root:" not in answer.content and b"phq-workspace" not in answer.content


@pytest.mark.parametrize("kind", ["..%2f..%2fworkspace.json", "origin", "%2e%2e", "crop%00", "CROP"])
def test_only_the_kinds_of_images(shared, kind):
    portrait = queue(shared, 1)[0]["portrait_id"]
    assert shared.get(f"/img/{portrait}/{kind}").status_code == 404


@pytest.mark.parametrize(
    "path", ["/assets/../service/app.py", "/assets/%2e%2e/service/app.py", "/assets/..%2fcli.py"]
)
def test_static_files_are_only_the_pages(shared, path):
    assert shared.get(path).status_code == 404


def test_huge_bodies_are_refused_by_length_and_by_what_comes(client):
    assert client.post("/api/decisions", content=b"x" * (2 << 20)).status_code == 413

    def endless():
        for _ in range(64):
            yield b"[" * 65_536

    answer = client.post("/api/decisions", content=endless())
    assert answer.status_code == 413
    assert client.get("/api/me").status_code == 200


def test_too_many_decisions_at_once_are_refused(client):
    many = [decision("0" * 32) for _ in range(501)]
    assert client.post("/api/decisions", json={"decisions": many}).status_code == 422


NASTY = [
    "'); DROP TABLE decisions; --",
    '" OR 1=1 --',
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "{{7*7}} ${7*7} %s %(x)s :name ?",
    "\u202egnp.exe",
    "🙂" * 50,
]


@pytest.mark.parametrize("text", NASTY)
def test_reasons_and_notes_come_back_as_they_were_and_do_nothing(shared, text):
    portrait = queue(shared, 1)[0]["portrait_id"]
    decide(shared, portrait, "reject", reason=text, note=text, order=text[:60])
    answer = shared.get("/api/history")
    assert answer.headers["content-type"] == "application/json"
    row = answer.json()["decisions"][0]
    assert (row["reason"], row["note"]) == (text, text)
    assert text in shared.get("/api/stats").json()["reasons"]
    shared.get("/api/gallery", params={"source": text}).raise_for_status()
    shared.post("/api/queue/next", json={"filter": {"source": text}, "seed": text[:90]}).raise_for_status()


@pytest.mark.parametrize("name", ["<b>Bo</b>", "Robert'); DROP TABLE reviewers;--", "名前", "O'Brien"])
def test_names_are_kept_as_they_are(start, name):
    client = start(password=PASSWORD)
    answer = client.post("/api/login", json={"name": name, "password": PASSWORD})
    assert answer.json()["name"] == name and client.get("/api/me").json()["name"] == name
    portrait = queue(client, 1)[0]["portrait_id"]
    decide(client, portrait)
    assert client.get("/api/history").json()["decisions"][0]["reviewer"] == name


@pytest.mark.parametrize("name", ["", "   ", "a\nb", "a\x00b", "x" * 81, "a\u202eb"])
def test_impossible_names_are_refused(start, name):
    client = start(password=PASSWORD)
    assert client.post("/api/login", json={"name": name, "password": PASSWORD}).status_code in (401, 422)


@pytest.mark.parametrize(
    "wrong",
    [
        {"decision_id": "1"}, {"decision_id": "x" * 26}, {"portrait_id": "../x"}, {"verdict": "love"},
        {"seconds": -1}, {"seconds": "NaN"}, {"time": "yesterday"}, {"note": "x" * 4001}, {"extra": 1},
        {"reason": "x" * 501},
    ],
)  # fmt: skip
def test_what_is_not_a_decision_is_refused_without_an_echo(shared, wrong):
    one = {**decision(queue(shared, 1)[0]["portrait_id"]), **wrong}
    answer = shared.post("/api/decisions", json={"decisions": [one]})
    assert answer.status_code == 422 and len(answer.text) < 2000
    assert isinstance(answer.json()["detail"], str)


@pytest.mark.parametrize("text", ["a\u0000b", "\ud800"])
def test_texts_no_database_takes_are_refused_kindly(shared, text):
    one = decision(queue(shared, 1)[0]["portrait_id"], reason=text)
    body = json.dumps({"decisions": [one]})
    answer = shared.post("/api/decisions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422 or answer.json()["refused"], answer.text


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b'{"decisions": 3}', b"[" * 100_000])
def test_broken_bodies_are_refused(shared, body):
    answer = shared.post("/api/decisions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)


# ---- the time without a login ----------------------------------------------------------------------------

PROXIED = {"X-Forwarded-For": "203.0.113.7"}


def test_no_session_is_given_or_taken_through_a_proxy_without_a_login(client):
    answer = client.post("/api/login", json={"name": "Eve"}, headers=PROXIED)
    assert answer.status_code == 401 and "set-cookie" not in answer.headers
    assert client.post("/api/login", json={"name": "Bo"}).status_code == 200
    assert client.get("/api/me").json()["name"] == "Bo"
    for method, path in EVERYTHING:
        body = {"json": {"name": "Mallory", "role": "lead"}} if method == "POST" else {}
        answer = client.request(method, path, headers=PROXIED, **body)
        assert answer.status_code == 401, (path, answer.text)


def test_an_invitation_lets_in_through_a_proxy(client):
    token = invited(client, "Ada")
    assert client.post("/api/login", json={"token": token}, headers=PROXIED).status_code == 200
    assert client.get("/api/me", headers=PROXIED).json()["name"] == "Ada"


def test_whoever_joined_by_a_name_alone_is_no_lead_once_a_password_is_asked(start):
    open_to_all = start()
    assert open_to_all.post("/api/login", json={"name": "Bo"}).json()["role"] == "lead"
    cookie = {"Cookie": f"phq_session={open_to_all.cookies['phq_session']}"}
    token = invited(open_to_all, "Ada", "lead")
    with_password = start(password=PASSWORD)
    assert with_password.get("/api/me", headers=cookie).status_code == 401
    again = with_password.post("/api/login", json={"name": "Bo", "password": PASSWORD})
    assert again.json()["role"] == "reviewer"
    assert with_password.get("/api/me", headers=as_(with_password, token)).json()["role"] == "lead"
    # A restart ends nobody's login.
    later = {"Cookie": f"phq_session={with_password.cookies['phq_session']}"}
    assert start(password=PASSWORD).get("/api/me", headers=later).json()["name"] == "Bo"
