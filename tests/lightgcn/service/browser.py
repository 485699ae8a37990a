"""Chromium without a window, driven through pipes by its DevTools protocol, without a package."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import time

PATIENCE = 120
_ABOVE = 10
_NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium():
    """The program; None where it is absent."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


class Browser:
    """One page of a browser.

    Args:
        profile: a folder for its profile.
    """

    def __init__(self, profile):
        told, self._write = os.pipe()
        self._read, answered = os.pipe()
        # It reads what it is told from descriptor 3, and answers on 4; neither may be one of these.
        inner = [fcntl.fcntl(one, fcntl.F_DUPFD, _ABOVE) for one in (told, answered)]
        command = f'exec "$0" "$@" 3<&{inner[0]} 4>&{inner[1]}'
        flags = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--no-first-run",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        self._process = subprocess.Popen(
            ["bash", "-c", command, chromium(), *flags],
            pass_fds=inner,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for one in (told, answered, *inner):
            os.close(one)
        self._number, self._left, self._session = 0, b"", None
        self.faults = []
        target = self.tell("Target.createTarget", url="about:blank")["targetId"]
        attached = self.tell("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for part in ("Page", "Runtime", "Log"):
            self.tell(f"{part}.enable")

    def tell(self, method, **given):
        """Call a method of the protocol, and wait for what it gives."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": given}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            if answer.get("method") == "Runtime.exceptionThrown":
                self.faults.append(answer["params"]["exceptionDetails"])
            if answer.get("method") == "Log.entryAdded":
                entry = answer["params"]["entry"]
                if entry["level"] == "error" and "favicon" not in entry.get("url", ""):
                    self.faults.append(entry)

    def _next(self):
        while b"\0" not in self._left:
            part = os.read(self._read, 1 << 16)
            assert part, "the browser ended"
            self._left += part
        one, _, self._left = self._left.partition(b"\0")
        return json.loads(one)

    def run(self, script):
        """The value of an expression of JavaScript on the page."""
        found = self.tell(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script):
        """The value of an expression once it is true."""
        deadline = time.monotonic() + PATIENCE
        while not self.run(f"!!({script})"):
            assert time.monotonic() < deadline, (script, self.faults)
            time.sleep(0.05)
        return self.run(script)

    def open(self, url, width=1200, height=900, scheme="light"):
        """Go to a page, in a window of a width and a height."""
        self.tell(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
            mobile=width < 500,
        )  # fmt: skip
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.tell("Emulation.setEmulatedMedia", features=features)
        self.tell("Page.navigate", url=url)
        self.until("document.body && document.body.dataset.ready === 'yes'")

    def press(self, key, code):
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.tell("Input.dispatchKeyEvent", type=kind, key=key, code=key,
                      windowsVirtualKeyCode=code, **text)  # fmt: skip

    def picture(self, whole=True):
        """The page as a PNG."""
        found = self.tell("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(found["data"])

    def close(self):
        """End the browser."""
        self._process.terminate()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)
