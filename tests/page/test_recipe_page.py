import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edge_inspector.errors import DocumentError, Misuse
from edge_inspector.page.recipe_page import recipe_page, saved_recipe
from edge_inspector.recipe import PAGE_VERSION, Calibration, Grid, Recipe, Region, load_recipe
from edge_inspector.recipe_alignment import Outline

CHROMIUM = shutil.which("chromium")
browser_needed = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium: the editor page is not tried in a browser"
)


def recipe(folder: Path) -> Recipe:
    return Recipe(
        product="U12",
        version=4,
        latency_budget_ms=100,
        engines={
            "cell": folder / "engines/cell/1",
            "whole": folder / "engines/whole/2",
            "kinds": folder / "engines/kinds/1",
        },
        rules={"balls": folder / "balls.toml"},
        alignment={"main": Outline(method="outline", size=(400, 300), margin_px=4)},
        regions=(
            Region(name="whole", rect=(4, 4, 392, 292), engine="whole"),
            Region(
                name="cells",
                rect=(100, 60, 120, 80),
                grid=Grid(rows=2, columns=3),
                engine="cell",
                rules="balls",
                fuse="both",
                classifier="kinds",
                classify="always",
                ignore=(((100.0, 60.0), (110.0, 60.5), (100.0, 70.0)),),
            ),
        ),
        calibration=Calibration(
            threshold=3,
            overkill=0.01,
            promised_overkill=0.02,
            units=150,
            backend="openvino",
            engines={},
        ),
        defect_classes=("missing</script>".replace("</script>", ""),),
    )


@pytest.fixture
def written(tmp_path: Path) -> Path:
    picture = np.random.default_rng(1).integers(0, 255, (300, 400), dtype=np.uint8)
    why = {"main": ("the product moves by 3 px </script><script>alert(1)</script>",)}
    path = tmp_path / "recipe.html"
    path.write_text(recipe_page(recipe(tmp_path.resolve()), tmp_path, {"main": picture}, why))
    return path


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(written: Path, browser):
    with browser.new_context(viewport={"width": 1200, "height": 800}) as context:
        page = context.new_page()
        faults: list[str] = []
        urls: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: urls.append(request.url))
        page.goto(written.as_uri())
        yield page
        assert faults == []
        assert [url for url in urls if not url.startswith(("file:", "data:", "blob:"))] == []


def save(page, button: str, path: Path) -> Path:
    with page.expect_download() as download:
        page.click(button)
    download.value.save_as(path)
    return path


def place(page, name: str, across: float, down: float) -> tuple[float, float]:
    """A point of a region on the screen, by share of its width and height."""
    number = page.evaluate("n => state.regions.findIndex((r) => r.name === n)", name)
    box = page.locator(f'.region[data-region="{number}"]').bounding_box()
    return box["x"] + across * box["width"], box["y"] + down * box["height"]


def drag(page, start: tuple[float, float], dx: float, dy: float) -> None:
    scale = page.evaluate("document.getElementById('frame').getScreenCTM().a")
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(start[0] + dx * scale / 2, start[1] + dy * scale / 2)
    page.mouse.move(start[0] + dx * scale, start[1] + dy * scale)
    page.mouse.up()


@browser_needed
def test_what_is_saved_untouched_is_the_recipe_without_its_threshold(page, tmp_path: Path) -> None:
    saved = load_recipe(save(page, "#save", tmp_path / "recipe.toml"))
    expected = recipe(tmp_path.resolve()).model_copy(update={"calibration": None, "page": 1})
    assert saved == expected


@browser_needed
def test_a_region_is_dragged_renamed_and_saved(page, tmp_path: Path) -> None:
    drag(page, place(page, "cells", 0.5, 0.5), 40, -20)
    page.fill("#name", "balls.U12")
    page.fill("#engine", "ball")
    page.press("#engine", "Enter")
    saved = load_recipe(save(page, "#save", tmp_path / "recipe.toml"))
    moved = saved.regions[1]
    assert (moved.name, moved.engine, moved.rect) == ("balls.U12", "ball", (140, 40, 120, 80))
    assert moved.grid == Grid(rows=2, columns=3)
    assert saved.engines["ball"] == tmp_path.resolve() / "engines/ball/1"
    assert "cell" not in saved.engines


@browser_needed
def test_a_corner_resizes_and_the_frame_holds_the_region(page, tmp_path: Path) -> None:
    page.click('#list li:has-text("cells")')
    drag(page, place(page, "cells", 1.0, 1.0), 30, 10)
    assert page.input_value("#width") == "150"
    assert page.input_value("#height") == "90"
    drag(page, place(page, "cells", 0.5, 0.5), -900, -900)
    saved = load_recipe(save(page, "#save", tmp_path / "recipe.toml"))
    assert saved.regions[1].rect == (0, 0, 150, 90)


@browser_needed
def test_regions_are_added_gridded_moved_by_keys_taken_back_and_deleted(page, tmp_path: Path):
    page.click("#add")
    page.fill("#rows", "3")
    page.fill("#columns", "5")
    page.press("#columns", "Tab")
    page.focus("#frame")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Control+z")
    page.click('#list li:has-text("whole")')
    page.click("#delete")
    saved = load_recipe(save(page, "#save", tmp_path / "recipe.toml"))
    assert [region.name for region in saved.regions] == ["cells", "region-1"]
    assert saved.regions[1].grid == Grid(rows=3, columns=5)
    assert saved.regions[1].rect == (151, 123, 100, 75)


@browser_needed
def test_a_region_becomes_the_units_code(page, tmp_path: Path) -> None:
    page.click('#list li:has-text("cells")')
    page.select_option("#code", "data-matrix")
    saved = load_recipe(save(page, "#save", tmp_path / "recipe.toml"))
    assert saved.regions[1].code == "data-matrix"
    assert saved.regions[1].engine is None


@browser_needed
@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("#name", "whole", "Two regions are named 'whole'"),
        ("#name", "a b", "a name has 1 to 64 letters"),
        ("#engine", "é", "engine 'é' is no name"),
    ],
)
def test_what_load_recipe_would_refuse_cannot_be_saved(page, field, value, told) -> None:
    page.click('#list li:has-text("cells")')
    page.fill(field, value)
    page.press(field, "Enter")
    assert told in page.inner_text("#problem")
    assert page.is_disabled("#save")
    page.click("#undo")
    assert page.is_hidden("#problem")
    assert page.is_enabled("#save")


@browser_needed
def test_a_saved_page_opens_as_it_was_left_and_gives_its_recipe(page, tmp_path: Path) -> None:
    drag(page, place(page, "cells", 0.5, 0.5), 10, 0)
    kept = save(page, "#keep", tmp_path / "kept.html")
    (tmp_path / "recipe.toml").write_text(saved_recipe(kept))
    assert load_recipe(tmp_path / "recipe.toml").regions[1].rect == (110, 60, 120, 80)
    page.goto(kept.as_uri())
    page.click('#list li:has-text("cells")')
    assert page.input_value("#x") == "110"


@browser_needed
def test_the_clipboard_gets_the_same_text(page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#copy")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.evaluate("documentText()")
    assert "[[regions]]" in copied


def test_the_page_is_one_file_that_nothing_in_it_can_break_out_of(written: Path) -> None:
    text = written.read_text()
    assert text.count("</script>") == 2
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert f'"page": {PAGE_VERSION}' in text
    assert "recipe version 4" in text


def test_a_page_of_an_older_version_is_refused_with_what_to_do(written: Path) -> None:
    old = written.read_text().replace(f'"page": {PAGE_VERSION},', '"page": 0,')
    written.write_text(old)
    with pytest.raises(Misuse, match=r"page of version 0, .* reads 1; save .*'recipe edit'"):
        saved_recipe(written)


def test_toml_saved_by_an_older_page_is_refused_with_what_to_do(written: Path) -> None:
    state = json.loads(written.read_text().split('id="state">')[1].split("</script>")[0])
    assert f"page = {PAGE_VERSION}\n" in state["head"]
    path = written.with_suffix(".toml")
    head = state["head"].replace(f"page = {PAGE_VERSION}\n", "page = 0\n")
    path.write_text(head + '\n[[regions]]\nname = "a"\nrect = [0, 0, 9, 9]\nrules = "balls"\n')
    with pytest.raises(DocumentError, match=r"saved by a page of version 0.*recipe edit"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<html></html>", "is no page that"),
        ('<script type="application/json" id="state">{</script>', "damaged"),
        (
            f'<script type="application/json" id="state">{{"page": {PAGE_VERSION}}}</script>',
            "nothing was saved",
        ),
    ],
)
def test_another_file_is_told_from_a_page(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "x.html").write_text(text)
    with pytest.raises(Misuse, match=told):
        saved_recipe(tmp_path / "x.html")
