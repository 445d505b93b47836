"""A student's first minutes with a lesson, in a real JupyterLab in a real browser.

Needs Chromium with its driver, and selenium (`pip install 'minids[browser]'`); skipped without.
MINIDS_SCREENSHOTS names a folder for pictures of what the student saw.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

LESSON = "03-attention-three-ways"
BLANK = 'raise NotImplementedError("your code")'
PADDING_IS_READ = "return torch.ones(1, 1, s, t, dtype=torch.bool, device=device).tril(t - s)"
RIGHT = (
    "return torch.ones(s, t, dtype=torch.bool, device=device).tril(t - s)"
    " & (torch.ones(1, 1, 1, t, dtype=torch.bool) if real is None else real[:, None, None])"
)
PATIENCE_S = 60  # for one thing to happen, on a machine that is busy with something else


def missing():
    """Why no browser can be driven here, "" if one can."""
    if importlib.util.find_spec("selenium") is None:
        return "no selenium here: pip install 'minids[browser]'"
    if importlib.util.find_spec("jupyterlab") is None:
        return "no JupyterLab here: pip install 'minids[lab]'"
    if not browser() or not shutil.which("chromedriver"):
        return "no Chromium with its driver here: apt install chromium chromium-driver"
    return ""


def browser():
    """Where Chromium is, None if nowhere."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next(filter(None, map(shutil.which, names)), None)


pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture
def lab(tmp_path):
    """(the student's folder, JupyterLab's address with its token), from `minids lab`."""
    place, runtime = tmp_path / "mine", tmp_path / "runtime"
    own = {name: str(tmp_path / name) for name in ("config", "data", "runtime")}
    environment = os.environ | {f"JUPYTER_{n.upper()}_DIR": path for n, path in own.items()}
    environment |= {"MINIDS_FAST": "0", "OMP_NUM_THREADS": "1"}  # progress is remembered
    environment |= {"IPYTHONDIR": str(tmp_path / "ipython")}
    command = [sys.executable, "-m", "minids_cli", "lab", "--no-browser", "--folder", str(place)]
    log = tmp_path / "log"
    with log.open("w") as out:
        server = subprocess.Popen(
            command, stdout=out, stderr=out, env=environment, start_new_session=True
        )
    try:
        yield place, address(server, runtime, log)
    finally:
        end(server)


def end(server):
    """JupyterLab with its kernels, whatever has become of it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)


def address(server, runtime, log):
    """Where JupyterLab answers, once it has written that down."""
    from selenium.webdriver.support.ui import WebDriverWait

    def written(_):
        assert server.poll() is None, log.read_text()
        for path in runtime.glob("jpserver-*.json"):
            try:
                about = json.loads(path.read_text())
            except ValueError:
                return None
            return f"{about['url']}lab/tree/index.ipynb?token={about['token']}"
        return None

    return WebDriverWait(None, PATIENCE_S, poll_frequency=0.2).until(written)


@pytest.fixture
def student(tmp_path):
    """Somebody at a screen."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser()
    for word in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
        options.add_argument(f"--{word}")
    options.add_argument("--window-size=1200,1000")
    options.add_argument(f"--user-data-dir={tmp_path / 'chromium'}")
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    person = Student(driver)
    try:
        yield person
    finally:
        person.look("end")
        driver.quit()


class Student:
    """Reads, clicks and types."""

    def __init__(self, driver):
        self.driver = driver

    def wait(self, happens):
        """What a condition gives as soon as it is something."""
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        moved = (StaleElementReferenceException,)
        waiting = WebDriverWait(self.driver, PATIENCE_S, 0.1, ignored_exceptions=moved)
        return waiting.until(lambda _: happens())

    def look(self, name):
        """Keep a picture, where somebody wants one."""
        folder = os.environ.get("MINIDS_SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.driver.save_screenshot(str(Path(folder) / f"{name}.png"))

    def all(self, selector):
        """Elements in the notebook that is in front."""
        return self.driver.find_elements(
            "css selector", f".jp-NotebookPanel:not(.lm-mod-hidden) {selector}"
        )

    def press(self, *keys):
        """Keys one after the other; with a modifier first, together."""
        from selenium.webdriver import ActionChains
        from selenium.webdriver.common.keys import Keys

        chain = ActionChains(self.driver)
        held = [key for key in keys if key in (Keys.SHIFT, Keys.CONTROL)]
        for key in held:
            chain.key_down(key)
        for key in keys:
            if key not in held:
                chain.send_keys(key)
        for key in held:
            chain.key_up(key)
        chain.perform()

    def active(self):
        """The cell that is selected."""
        return self.all(".jp-Cell.jp-mod-active")[0]

    def run(self):
        """Shift+Enter, which goes on to the next cell → the cell that is being run."""
        from selenium.webdriver.common.keys import Keys

        cell = self.active()
        self.press(Keys.SHIFT, Keys.ENTER)
        self.wait(lambda: self.active() != cell)
        return cell

    def replace_last_line(self, text):
        """In the selected cell, as one does with a blank."""
        from selenium.webdriver.common.keys import Keys

        self.press(Keys.ENTER)
        self.wait(lambda: self.all(".jp-Notebook.jp-mod-editMode"))
        self.press(Keys.CONTROL, Keys.END)
        self.press(Keys.SHIFT, Keys.HOME)
        self.press(text)


def test_open_run_fail_read_fix_pass(lab, student):
    from selenium.webdriver.common.keys import Keys

    place, url = lab
    student.driver.get(url)
    link = f"a[href*='{LESSON}']"
    student.wait(lambda: student.all(link))[0].click()
    student.wait(lambda: "Attention, three ways" in "".join(e.text for e in student.all("h1")))
    student.wait(lambda: student.all(".jp-CodeCell"))
    student.all(".jp-Cell")[0].click()

    for _ in range(30):
        if "YOUR CODE 03.1" in student.active().text:
            break
        student.run()
    exercise = student.active()
    assert BLANK in exercise.text
    student.replace_last_line(PADDING_IS_READ)
    student.run()
    student.wait(lambda: "padding is read" in exercise.text)
    assert "✗ 03.1" in exercise.text and "no text" in exercise.text
    student.look("wrong")

    student.press(Keys.ARROW_UP)
    student.wait(lambda: student.active() == exercise)
    student.replace_last_line(RIGHT)
    student.run()
    student.wait(lambda: "✓ 03.1" in exercise.text)
    assert "padding is read" not in exercise.text
    confirmed = student.run()
    student.wait(lambda: "✓ 03.1" in confirmed.text)
    assert not [e.text for e in student.all("[data-mime-type*='stderr']")]
    student.look("right")

    student.press(Keys.CONTROL, "s")
    workbook = place / f"{LESSON}.ipynb"
    student.wait(lambda: "if real is None else real" in workbook.read_text(encoding="utf-8"))
    known = json.loads((place / "progress.json").read_text(encoding="utf-8"))["exercises"]["03.1"]
    assert known["right"] and known["mistakes"] == {"padding is read": 1}
