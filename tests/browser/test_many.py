"""A study of 5,000 trials in the browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.conftest import Page
from tests.browser.studies import served
from tests.written_history import spec_in, write_study

INTERACTIVE = "return performance.getEntriesByName('sweep:interactive')[0].startTime"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("many")
    write_study(spec_in(folder / "mlruns", "budget.trials=5000"), 5000, workers=16)
    with served(folder, "written") as (address, _):
        yield address


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_five_thousand_trials_can_be_used_within_two_seconds(page: Page, many: str) -> None:
    page.open(f"{many}/sweep/written")
    page.ready()
    # Again, so that neither the browser's own start nor the server's first reading is measured.
    page.open(f"{many}/sweep/written")
    page.ready()
    assert page.js(INTERACTIVE) < 2000
    assert page.js("return document.getElementById('grid').getAttribute('aria-rowcount')") == "5001"
    assert page.js("return document.querySelectorAll('#grid tr').length") < 100, "rows in sight alone are drawn"
    page.js("document.getElementById('grid-box').scrollTop = 34 * 4000")
    page.click('#grid th[data-key="number"] button')
    page.click('#grid th[data-key="number"] button')
    assert page.column("number")[0] == "4999"
    page.drawn()
    page.picture("study-5000")
    assert page.errors() == []
