"""A page in headless Chrome or Chromium, driven by its DevTools protocol over pipes, which needs no other package.

https://chromedevtools.github.io/devtools-protocol: messages are JSON that ends in a zero byte. CHROME is the command of
a browser that is not on the PATH, or that needs options.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import select
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

_NAMES = ("google-chrome", "google-chrome-stable", "chrome", "chromium", "chromium-browser", "chrome-headless-shell")
COMMAND = shlex.split(os.environ.get("CHROME", "")) or list(filter(None, map(shutil.which, _NAMES)))[:1]
_OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe")
_SECONDS = 60.0  # for one answer
_PROBLEMS = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Network.loadingFailed")


class Tab:
    """One tab; `problems` are the errors of its console and its loads so far."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from, self._rest, self._count = to_browser, from_browser, b"", 0
        self._session: dict[str, str] = {}
        self.problems: list[Any] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """The result of a method of the protocol."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params, **self._session}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        return self._read_until("id", self._count)["result"]

    def open(self, page: pathlib.Path, width: int) -> None:
        """Load a page in a window of so many pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=page.resolve().as_uri())
        self._read_until("method", "Page.loadEventFired")

    def evaluate(self, script: str) -> Any:
        """The value of an expression of JavaScript, None if it has none."""
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def _read_until(self, key: str, value: Any) -> Any:
        message: dict[str, Any] = {}
        while message.get(key) != value:
            while b"\0" not in self._rest:
                ready, _, _ = select.select([self._from], [], [], _SECONDS)
                if not ready or not (data := os.read(self._from, 1 << 16)):
                    raise TimeoutError("the browser does not answer")
                self._rest += data
            text, self._rest = self._rest.split(b"\0", 1)
            message = json.loads(text)
            if message.get("method") in _PROBLEMS:
                self.problems.append(message["params"])
        return message


@contextlib.contextmanager
def open_browser(profile: pathlib.Path) -> Iterator[Tab]:
    """A tab of a browser that ends with the block; its files go to `profile`."""
    pipes = [*os.pipe(), *os.pipe()]
    # Above 4, as the browser reads from 3 and writes to 4.
    read, to_browser, from_browser, write = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in pipes]
    redirected = ["bash", "-c", f'exec "$@" 3<&{read} 4>&{write}', "bash"]
    command = [*redirected, *COMMAND, *_OPTIONS, f"--user-data-dir={profile}"]
    process = subprocess.Popen(command, pass_fds=(read, write), stderr=subprocess.DEVNULL)
    try:
        for end in (*pipes, read, write):
            os.close(end)
        yield Tab(to_browser, from_browser)
    finally:
        process.kill()
        process.wait()
        for end in (to_browser, from_browser):
            os.close(end)
