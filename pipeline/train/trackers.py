"""Experiment trackers, `--log-to mlflow|wandb`: a run's settings once, and its figures after each epoch.

Both are extras of the package. A resumed run continues the tracker's run, whose id is a file of the run directory.
"""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from pipeline.errors import InputError
from pipeline.files import write_text
from pipeline.status import doing
from pipeline.train.run_plan import RunPlan

_MAX_REASON = 200  # characters; URLs and headers follow


def make_tracker(name: str, plan: RunPlan) -> keras.callbacks.Callback:
    """The callback of a tracker: "mlflow" or "wandb"; InputError if its package is not installed."""
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"--log-to {name} needs the package {name}: python -m pip install -e '.[{name}]'") from error
    return {"mlflow": MlflowTracker, "wandb": WandbTracker}[name](plan, module)


class _Tracker(keras.callbacks.Callback):
    def __init__(self, plan: RunPlan, module: Any) -> None:
        super().__init__()
        self._plan, self._module, self._directory = plan, module, plan.config.run_dir
        self._error = module.exceptions.MlflowException if module.__name__ == "mlflow" else module.errors.Error

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        with self._errors_printed():
            self._log({name: float(value) for name, value in (logs or {}).items()}, epoch + 1)

    def on_train_end(self, logs: Any = None) -> None:
        with self._errors_printed():
            self._end()

    @contextlib.contextmanager
    def _errors_printed(self) -> Iterator[None]:
        """A tracker that fails in the middle of a run does not end the training."""
        try:
            yield
        except Exception as error:  # of a network, a disk or a server: their clients have no common one
            reason = str(error).strip().partition("\n")[0][:_MAX_REASON]
            print(f"warning: {self._module.__name__}: not logged: {reason}", file=sys.stderr)

    def on_train_begin(self, logs: Any = None) -> None:
        name = self._module.__name__
        try:
            with doing(f"connecting to {name}"):  # for minutes, if no server answers
                self._start()
        except self._error as error:
            reason = str(error).strip().partition("\n")[0][:_MAX_REASON]
            raise InputError(f"--log-to {name}: {reason}; check its server, or train without it") from error

    def _stored_id(self) -> str | None:
        path = self._directory / self.id_file
        return path.read_text(encoding="ascii").strip() if path.is_file() else None

    def _store_id(self, value: str) -> None:
        write_text(self._directory / self.id_file, value + "\n")

    @property
    def id_file(self) -> str:
        """The name of the file that holds the id of the tracker's run."""
        return f"{self._module.__name__}_run_id"


class MlflowTracker(_Tracker):
    """Logs to the server of MLFLOW_TRACKING_URI, by default to mlflow.db in the working directory."""

    def __init__(self, plan: RunPlan, module: Any) -> None:
        super().__init__(plan, module)
        try:
            module.MlflowClient()  # the client alone, mlflow-skinny, cannot write a database
        except self._error as error:
            reason = str(error).strip().partition(". ")[0]
            raise InputError(
                f"--log-to mlflow: cannot log to {module.get_tracking_uri()} ({reason}); set "
                "MLFLOW_TRACKING_URI to a server's address, or install the whole package: python -m pip install mlflow"
            ) from error

    def _start(self) -> None:
        mlflow, earlier = self._module, self._stored_id()
        if earlier is not None:
            try:
                mlflow.start_run(run_id=earlier)
                return
            except mlflow.exceptions.MlflowException:
                pass  # of another server: it gets a run of its own
        self._store_id(mlflow.start_run(run_name=self._directory.name).info.run_id)
        mlflow.log_params(self._plan.settings())
        mlflow.set_tag("data", self._plan.manifest.name)

    def _log(self, values: Mapping[str, float], epoch: int) -> None:
        self._module.log_metrics(values, step=epoch)

    def _end(self) -> None:
        self._module.end_run()


class WandbTracker(_Tracker):
    """Logs into RUN_DIR/wandb, for `wandb sync`; with WANDB_MODE=online to the server."""

    def _start(self) -> None:
        earlier = self._stored_id()
        self._run = self._module.init(
            project=self._plan.manifest.name,
            name=self._directory.name,
            id=earlier,
            resume="allow" if earlier else None,
            dir=self._directory,
            mode=os.environ.get("WANDB_MODE", "offline"),
            config=self._plan.settings(),
        )
        if earlier is None:
            self._store_id(self._run.id)

    def _log(self, values: Mapping[str, float], epoch: int) -> None:
        self._run.log(values, step=epoch)

    def _end(self) -> None:
        self._run.finish()
