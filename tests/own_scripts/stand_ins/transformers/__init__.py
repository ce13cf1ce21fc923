"""Replaces Hugging Face transformers: a Trainer that calls callbacks, saves, and resumes."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch


@dataclass
class TrainingArguments:
    output_dir: str
    num_train_epochs: int
    per_device_train_batch_size: int
    logging_steps: int
    eval_strategy: str
    save_strategy: str
    report_to: list = field(default_factory=list)


@dataclass
class State:
    global_step: int = 0
    max_steps: int = 0
    epoch: float = 0.0


@dataclass
class Control:
    should_save: bool = False
    should_training_stop: bool = False


class TrainerCallback:
    def on_train_begin(self, args, state, control, **kwargs): ...
    def on_step_end(self, args, state, control, **kwargs): ...
    def on_log(self, args, state, control, **kwargs): ...
    def on_evaluate(self, args, state, control, **kwargs): ...
    def on_save(self, args, state, control, **kwargs): ...
    def on_train_end(self, args, state, control, **kwargs): ...


class Trainer:
    def __init__(self, model, args, train_dataset, eval_dataset, callbacks):
        self.model, self.args, self.callbacks = model, args, callbacks
        self.data, self.eval_data = train_dataset, eval_dataset
        self.state, self.control = State(), Control()
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def _call(self, event, **given):
        for callback in self.callbacks:
            getattr(callback, event)(self.args, self.state, self.control, model=self.model, **given)

    def _loss(self, rows):
        return self.model(**{name: torch.stack([row[name] for row in rows]) for name in rows[0]})["loss"]

    def train(self, resume_from_checkpoint=None):
        size = self.args.per_device_train_batch_size
        an_epoch = math.ceil(len(self.data) / size)
        self.state.max_steps = an_epoch * self.args.num_train_epochs
        if resume_from_checkpoint is not None:
            folder = Path(resume_from_checkpoint)
            self.model.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
            self.state.global_step = json.loads((folder / "trainer_state.json").read_text())["global_step"]
        self._call("on_train_begin")
        while self.state.global_step < self.state.max_steps and not self.control.should_training_stop:
            place = self.state.global_step % an_epoch * size
            loss = self._loss(self.data[place : place + size])
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.state.global_step += 1
            self.state.epoch = self.state.global_step / an_epoch
            self._call("on_step_end")
            if self.state.global_step % self.args.logging_steps == 0:
                logs = {"loss": loss.item(), "grad_norm": torch.tensor(1.0), "learning_rate": 0.05}
                self._call("on_log", logs={**logs, "epoch": self.state.epoch})
            if self.state.global_step % an_epoch == 0:
                metrics = {"eval_loss": self._loss(self.eval_data).item(), "eval_runtime": 0.1}
                self._call("on_log", logs={**metrics, "epoch": self.state.epoch})
                self._call("on_evaluate", metrics=metrics)
                self.control.should_save = True
            if self.control.should_save:
                self._save()
        self._call("on_train_end")

    def _save(self):
        self.control.should_save = False
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        folder.mkdir()
        torch.save(self.model.state_dict(), folder / "model.pt")
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": self.state.global_step}))
        self._call("on_save")
