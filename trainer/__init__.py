"""The training side of the application. Importing this package imports nothing else.

`worker` trains (torch, no Django), `control` opens an attempt and supervises it, `alerts` judges it, `scheduler` starts
queued runs, `recipes` has the built-in recipes. Samples of GPUs and host are in `steersman.agent.machine`.
"""
