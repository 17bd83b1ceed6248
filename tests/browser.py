"""A headless Chromium for tests, driven through chromedriver by the W3C WebDriver protocol: JSON over HTTP."""

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # what the protocol calls a reference to an element


def why_not() -> str | None:
    """Say why no browser can be driven here; None when one can."""
    missing = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
    return (
        f"{' and '.join(missing)} not installed (Debian: apt-get install chromium chromium-driver)" if missing else None
    )


class Browser:
    """One window: open a page, click, type, ask for values, take a picture."""

    def __init__(self, address):
        self._address = address

    def call(self, method, path, **body):
        request = urllib.request.Request(
            self._address + path, json.dumps(body).encode() if method == "POST" else None, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from error

    def open(self, path: Path, fragment=""):
        self.call("POST", "/url", url=path.resolve().as_uri() + fragment)

    def script(self, code, *arguments):
        """Return what a function body returns in the page; the page's own policy does not bind it."""
        return self.call("POST", "/execute/sync", script=code, args=list(arguments))

    def wait_for(self, code, seconds=20):
        """Return what an expression gives in the page, as soon as that is neither null nor false."""
        until = time.monotonic() + seconds
        while not (found := self.script(f"return {code}")) and time.monotonic() < until:
            time.sleep(0.05)
        return found

    def find(self, selector):
        return self.call("POST", "/element", using="css selector", value=selector)[_ELEMENT]

    def click(self, selector):
        self.call("POST", f"/element/{self.find(selector)}/click")

    def type(self, selector, text):
        self.call("POST", f"/element/{self.find(selector)}/value", text=text)

    def keys(self, *keys):
        presses = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("POST", "/actions", actions=[{"type": "key", "id": "keyboard", "actions": presses}])

    def hover(self, selector):
        move = {"type": "pointerMove", "origin": {_ELEMENT: self.find(selector)}, "x": 0, "y": 0}
        self.call("POST", "/actions", actions=[{"type": "pointer", "id": "mouse", "actions": [move]}])

    def texts(self, selector):
        """Return the words of every element that matches and can be seen."""
        code = """return [...document.querySelectorAll(arguments[0])]
            .filter((element) => element.checkVisibility()).map((element) => element.innerText.trim())"""
        return self.script(code, selector)

    def screen(self, width, height, dark=False, media="screen", has_script=True):
        """Set the size of the window, the theme that the system asks for, and whether scripts run."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        features = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
        named = [{"name": name, "value": value} for name, value in features.items()]
        self.devtools("Emulation.setEmulatedMedia", media=media, features=named)
        self.devtools("Emulation.setScriptExecutionDisabled", value=not has_script)

    def devtools(self, command, **parameters):
        return self.call("POST", "/goog/cdp/execute", cmd=command, params=parameters)

    def picture(self, path: Path, whole=True):
        found = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def errors(self):
        """Return what the console had to complain about since the last call."""
        entries = self.call("POST", "/se/log", type="browser")
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]


@contextmanager
def browser(folder: Path):
    """Start Chromium with a profile in `folder`, and end it and its driver afterwards."""
    driver = subprocess.Popen(
        ["chromedriver", "--port=0", f"--log-path={folder / 'driver.log'}"], stdout=subprocess.PIPE, text=True
    )
    try:
        port = _port(driver)
        arguments = [
            "--headless=new",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={folder / 'profile'}",
        ]
        if os.geteuid() == 0:  # Chromium's sandbox refuses to be built by root
            arguments.append("--no-sandbox")
        capabilities = {"browserName": "chrome", "goog:chromeOptions": {"args": arguments},
                        "goog:loggingPrefs": {"browser": "ALL"}}  # fmt: skip
        address = f"http://127.0.0.1:{port}"
        session = Browser(address).call("POST", "/session", capabilities={"alwaysMatch": capabilities})["sessionId"]
        window = Browser(f"{address}/session/{session}")
        try:
            yield window
        finally:
            window.call("DELETE", "")
    finally:
        driver.terminate()
        driver.wait(20)
        driver.stdout.close()


def _port(driver) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        line = driver.stdout.readline()
        if "started successfully on port" in line:
            return int(line.rstrip(".\n").rpartition(" ")[2])
        assert line or driver.poll() is None, "chromedriver ended before it listened"
    raise AssertionError("chromedriver does not listen")
