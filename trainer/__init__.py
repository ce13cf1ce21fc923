"""The training side of the application. Importing this package imports nothing.

`worker` trains (torch, no Django), `control` opens an attempt and supervises it, `ingest` stores what was logged,
`scheduler` starts queued runs, `recipes` holds the built-in recipes. NVML and host samples:
`steersman.agent.machine`.
"""
