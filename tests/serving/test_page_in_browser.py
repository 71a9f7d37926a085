"""The page at `/` in a real browser: what a person types, presses and sees."""

import json
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from tensorflow_serving.config import model_server_config_pb2

from kbert.serving.gate import Gate
from kbert.serving.manager import ManagerOptions, ModelManager
from kbert.serving.metrics import Metrics
from kbert.serving.page import make_page
from kbert.serving.rest import RestApp, RestOptions
from tests.serving.models import toy_probabilities, write_toy_classifier
from tests.serving.page_server import FakeServer, Running

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no browser: needs chromium on the PATH")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    running = Running(FakeServer())
    yield running
    running.close()


@pytest.fixture
def fake(running: Running) -> FakeServer:
    app = running.server.config.app
    assert isinstance(app, FakeServer)
    app.__init__()
    return app


@pytest.fixture
def page(chromium: Any, running: Running) -> Iterator[Any]:
    """A page of the browser; at the end it must have asked no other host, and have
    logged nothing but the failed requests that a test says it expects."""
    context = chromium.new_context()
    page = context.new_page()
    page.set_default_timeout(15_000)
    page.addresses, page.problems, page.expected = [], [], 0
    page.on("request", lambda request: page.addresses.append(request.url))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on(
        "console",
        lambda line: line.type == "error" and page.problems.append(line.text),
    )
    yield page
    context.close()
    origin = page.addresses[0]
    outside = [url for url in page.addresses if not url.startswith((origin, "data:"))]
    assert outside == []
    unexpected = [text for text in page.problems if "Failed to load" not in text]
    assert unexpected == []
    assert len(page.problems) == page.expected, page.problems


def labels(page: Any) -> list[tuple[str, str]]:
    """The labels and percentages shown, from the top, once the answer is there."""
    page.wait_for_selector("#answer li")
    rows = page.locator("#answer li")
    return [
        tuple(row.locator(part).text_content() for part in (".label", ".share"))
        for row in rows.all()
    ]


def wait_for_next_answer(page: Any) -> None:
    """Waits for the answer to what was just sent, where one was shown before."""
    page.wait_for_selector("#answer[aria-busy=false] li")


def wait_for_error(page: Any) -> str:
    page.wait_for_selector("#error p")
    return "\n".join(page.locator("#error p").all_text_contents())


def test_a_text_gets_its_labels_sorted_with_the_version(page, running, fake):
    page.goto(running.address)
    assert not page.get_by_label("Model", exact=True).is_visible()
    assert not page.get_by_label("Second text").is_visible()
    page.get_by_label("Text", exact=True).fill("A good film.")
    page.get_by_role("button").click()
    assert labels(page) == [("pos", "90.0\u202f%"), ("neg", "10.0\u202f%")]
    assert "reviews, version 7" in page.locator("#answer").text_content()
    widths = [
        bar.bounding_box()["width"] / bar.locator("..").bounding_box()["width"]
        for bar in page.locator(".bar").all()
    ]
    assert widths == pytest.approx([0.9, 0.1], abs=0.01)
    example = {"text": "A good film."}
    assert fake.requests == [
        (
            "/v1/models/reviews/versions/7:classify",
            {"signature_name": "classify", "examples": [example]},
        )
    ]
    assert page.get_by_text("development server", exact=True).is_visible()


def test_the_keyboard_is_enough(page, running, fake):
    page.goto(running.address)
    page.keyboard.type("good")  # the text has the focus from the start
    page.keyboard.press("Enter")  # a new line, no request
    page.keyboard.type("bad")
    page.keyboard.press("Control+Enter")
    assert labels(page)[0] == ("pos", "90.0\u202f%")
    assert [body["examples"] for _, body in fake.requests] == [[{"text": "good\nbad"}]]
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "send"
    page.keyboard.press("Space")
    wait_for_next_answer(page)
    assert len(fake.requests) == 2


def test_markup_is_shown_as_text(page, running, fake):
    fake.models = {"reviews": "many"}
    page.goto(running.address)
    text = "<script>window.broken = 1</script><b>good</b><img src=x onerror=alert(1)>"
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_role("button").click()
    assert labels(page)[0][0] == "<i>label 29</i>"
    fake.failure = (400, json.dumps({"error": f"cannot take {text}"}))
    page.expected = 1
    page.get_by_role("button").click()
    assert f"cannot take {text}" in wait_for_error(page)
    assert page.locator("main :is(#answer, #error) :is(script, b, i, img)").count() == 0
    assert page.evaluate("window.broken") is None
    assert fake.requests[0][1]["examples"] == [{"text": text}]


def test_many_labels_fold_after_ten(page, running, fake):
    fake.models = {"reviews": "many"}
    page.goto(running.address)
    page.get_by_role("button").click()
    assert len(labels(page)) == 30
    assert page.locator("#answer li:visible").count() == 10
    page.get_by_text("20 more labels").click()
    assert page.locator("#answer li:visible").count() == 30
    assert page.locator("#answer .best").count() == 1


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, '{"error": "Data is odd"}', ["did not accept", "Data is odd"]),
        (429, '{"error": "queue"}', ["busy. Try again", "queue"]),
        (503, '{"error": "full"}', ["not ready or is busy", "full"]),
        (504, '{"error": "Deadline"}', ["took longer", "Deadline"]),
        (500, "plain words", ["failed (HTTP 500)", "plain words"]),
        (200, "<html>proxy</html>", ["no JSON", "<html>proxy</html>"]),
        (200, '{"results": []}', ["not that of a text classifier"]),
    ],
)
def test_errors_are_shown_in_words(page, running, fake, status, body, expected):
    fake.failure = (status, body)
    page.expected = int(status != 200)
    page.goto(running.address)
    page.get_by_role("button").click()
    shown = wait_for_error(page)
    for part in expected:
        assert part in shown
    assert page.locator("#answer").text_content() == ""
    fake.failure = None
    page.get_by_role("button").click()
    assert labels(page)[0] == ("neg", "80.0\u202f%")
    assert page.locator("#error").text_content() == ""


def test_a_server_that_is_gone_is_named(page):
    gone = Running(FakeServer())
    page.goto(gone.address)
    page.wait_for_load_state("networkidle")
    gone.close()
    page.expected = 1
    page.get_by_role("button").click()
    assert "cannot be reached" in wait_for_error(page)


def test_a_version_replaced_in_between_is_asked_for_anew(page, running, fake):
    page.goto(running.address)
    described = fake.metadata
    answers = iter([7, 8])

    def metadata(name: str, kind: str) -> dict[str, Any]:
        fake.version = next(answers)
        answer = described(name, kind)
        fake.version = 8
        return answer

    page.wait_for_load_state("networkidle")
    fake.metadata = metadata
    page.expected = 1
    page.get_by_role("button").click()
    labels(page)
    assert "version 8" in page.locator("#answer").text_content()
    assert [path.split("/")[-1] for path, _ in fake.requests] == [
        "7:classify",
        "8:classify",
    ]
    del fake.metadata


def test_several_models_and_pairs(page, running, fake):
    fake.models = {"reviews": "plain", "twins & co": "pair"}
    page.goto(running.address)
    choice = page.get_by_label("Model", exact=True)
    assert choice.locator("option").all_text_contents() == ["reviews", "twins & co"]
    choice.select_option("twins & co")
    page.get_by_label("Second text").fill("other")
    page.get_by_label("Text", exact=True).fill("good")
    page.get_by_label("Second text").press("Control+Enter")
    labels(page)
    path, body = fake.requests[-1]
    assert path == "/v1/models/twins%20%26%20co/versions/7:classify"
    assert body["examples"] == [{"text": "good", "text_pair": "other"}]
    choice.select_option("reviews")
    page.wait_for_selector("#pair-field", state="hidden")
    assert page.locator("#answer").text_content() == ""


def test_a_model_without_classify_is_asked_to_predict(page, running, fake):
    fake.models = {"reviews": "predict"}
    page.goto(running.address)
    page.get_by_label("Text", exact=True).fill("good")
    page.get_by_role("button").click()
    assert labels(page) == [("pos", "90.0\u202f%"), ("class 0", "10.0\u202f%")]
    path, body = fake.requests[-1]
    assert path.endswith(":predict")
    assert body == {
        "signature_name": "serving_default",
        "instances": [{"text": "good"}],
    }


def test_no_model_yet(page, running, fake):
    fake.models = {}
    page.goto(running.address)
    assert "no model yet" in wait_for_error(page)
    assert not page.locator("form").is_visible()


def test_long_texts_any_script_and_lone_surrogates_arrive(page, running, fake):
    page.goto(running.address)
    text = "good 漢字 🙂 \u200d עברית " + "word " * 20_000
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_role("button").click()
    labels(page)
    assert fake.requests[-1][1]["examples"] == [{"text": text}]
    page.evaluate("document.getElementById('text').value = 'a\\ud800'")
    page.get_by_role("button").click()
    wait_for_next_answer(page)
    assert fake.requests[-1][1]["examples"] == [{"text": "a\ud800"}]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_are_legible_and_a_phone_has_no_sideways_scroll(
    page, running, fake, scheme
):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 320, "height": 640})
    fake.models = {"a_very_long_name_of_a_model_without_any_blank_" * 2: "plain"}
    page.goto(running.address)
    page.get_by_role("button").click()
    labels(page)
    fits = "document.documentElement.scrollWidth <= window.innerWidth"
    assert page.evaluate(fits)
    colours = page.evaluate(
        """['#send', '.hint', '.badge', '.label', '.about', 'footer p'].map((name) => {
          const element = document.querySelector(name);
          const of = (node) => getComputedStyle(node);
          let behind = element;
          while (of(behind).backgroundColor === 'rgba(0, 0, 0, 0)')
            behind = behind.parentElement;
          return [of(element).color, of(behind).backgroundColor];
        })"""
    )
    for text, behind in colours:
        assert contrast(text, behind) >= 4.5, (text, behind)


def contrast(one: str, other: str) -> float:
    """Contrast of two CSS colours (WCAG 2.2, relative luminance)."""

    def luminance(colour: str) -> float:
        shares = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [
            share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4
            for share in shares
        ]
        weights = (0.2126, 0.7152, 0.0722)
        return sum(w * s for w, s in zip(weights, linear, strict=True))

    dark, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The real server, with two models."""
    folder = tmp_path_factory.mktemp("models")
    write_toy_classifier(folder / "toy", 3)
    write_toy_classifier(folder / "pairs", 1, with_pair=True)
    config = model_server_config_pb2.ModelServerConfig()
    for name in ("toy", "pairs"):
        config.model_config_list.config.add(
            name=name, base_path=str(folder / name), model_platform="tensorflow"
        )
    manager = ModelManager(ManagerOptions())
    manager.set_config(config)
    app = RestApp(
        manager,
        RestOptions(max_body_bytes=1000),
        Metrics(),
        Gate(16),
        page=make_page(manager.model_names),
    )
    running = Running(app)
    yield running
    running.close()
    app.close()
    manager.close()


def percentages(text: bytes, pair: bytes | None = None) -> dict[str, str]:
    shares = toy_probabilities(text, pair)
    return {
        label: f"{100 * share:.1f}\u202f%"
        for label, share in zip(("neg", "pos"), shares, strict=True)
    }


def test_the_real_server_answers_with_its_own_version(page, real):
    page.goto(real.address)
    choice = page.get_by_label("Model", exact=True)
    choice.select_option("toy")
    page.get_by_label("Text", exact=True).fill("a good film")
    page.get_by_role("button").click()
    assert dict(labels(page)) == percentages(b"a good film")
    assert "toy, version 3" in page.locator("#answer").text_content()
    choice.select_option("pairs")
    page.get_by_label("Second text").fill("good too")
    page.get_by_label("Text", exact=True).fill("bad")
    page.get_by_role("button").click()
    assert dict(labels(page)) == percentages(b"bad", b"good too")
    assert "pairs, version 1" in page.locator("#answer").text_content()


def test_an_error_of_the_real_server_is_shown(page, real):
    page.goto(real.address)
    page.get_by_label("Model", exact=True).select_option("toy")
    page.wait_for_load_state("networkidle")
    page.get_by_label("Text", exact=True).fill("x" * 2000)
    page.expected = 1
    page.get_by_role("button").click()
    assert "too large" in wait_for_error(page)
