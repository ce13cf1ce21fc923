"""Replaces Lightning: a Trainer that calls a module's steps and callbacks, stops, saves, and resumes."""

from itertools import islice

import torch


class Callback:
    def on_train_start(self, trainer, pl_module): ...
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx): ...
    def on_validation_end(self, trainer, pl_module): ...


class LightningModule(torch.nn.Module):
    def log(self, name, value):
        self.trainer.callback_metrics[name] = value.detach()


class Trainer:
    def __init__(self, max_epochs, accelerator, devices, logger, enable_checkpointing, callbacks):
        self.max_epochs, self.callbacks = max_epochs, callbacks
        self.global_step = self.current_epoch = 0
        self.should_stop = False
        self.callback_metrics = {}

    def fit(self, module, loader, validation, ckpt_path=None):
        self.module, module.trainer = module, self
        self.estimated_stepping_batches = self.max_epochs * len(loader)
        optimizer = module.configure_optimizers()
        if ckpt_path is not None:
            saved = torch.load(ckpt_path, weights_only=True)
            module.load_state_dict(saved["state_dict"])
            self.global_step, self.current_epoch = saved["global_step"], saved["epoch"]
        # Lightning tries validation before training, and callbacks are called for it.
        self.sanity_checking = True
        self._validate(validation)
        self.sanity_checking = False
        self._call("on_train_start")
        while self.current_epoch < self.max_epochs and not self.should_stop:
            self._train_epoch(optimizer, loader, validation)

    def _train_epoch(self, optimizer, loader, validation):
        done = self.global_step - self.current_epoch * len(loader)
        for index, batch in enumerate(islice(loader, done, None), done):
            loss = self.module.training_step(batch, index)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            self.global_step += 1
            self._call("on_train_batch_end", {"loss": loss.detach()}, batch, index)
            if self.should_stop:
                break
        self._validate(validation)
        self.current_epoch += 1

    def _validate(self, loader):
        with torch.no_grad():
            for index, batch in enumerate(loader):
                self.module.validation_step(batch, index)
        self._call("on_validation_end")

    def _call(self, event, *given):
        for callback in self.callbacks:
            getattr(callback, event)(self, self.module, *given)

    def save_checkpoint(self, path):
        saved = {"state_dict": self.module.state_dict(), "global_step": self.global_step, "epoch": self.current_epoch}
        torch.save(saved, path)
